// The processor's own dot product of bfloat16 pairs, for loops.h: included before it, inside the unnamed
// namespace of a file that is compiled for AVX-512 with bfloat16.
#define DOT_BF16
typedef float Vec16 __attribute__((vector_size(64)));
typedef uint32_t Bits16 __attribute__((vector_size(64)));
inline __attribute__((always_inline)) Vec16 dot(Vec16 sum, Bits16 weights, uint32_t x) {
  return (Vec16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights,
                                 (__m512bh)_mm512_set1_epi32(int(x)));
}
