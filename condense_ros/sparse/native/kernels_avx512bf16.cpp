// x86-64 with AVX-512 and its bfloat16 dot product.
#include "kernels.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace condense {
#if defined(__AVX512BF16__)
namespace {
#define ISA_NAME "avx512bf16"
#define LANES 16
#define REGISTERS 32
#define MAX_VECTORS 6
#define DOT_BF16
typedef float Vec16 __attribute__((vector_size(64)));
typedef uint32_t Bits16 __attribute__((vector_size(64)));
inline __attribute__((always_inline)) Vec16 dot(Vec16 sum, Bits16 weights, uint32_t x) {
  return (Vec16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights,
                                 (__m512bh)_mm512_set1_epi32(int(x)));
}
#include "loops.h"
}  // namespace
const Kernels* const avx512bf16_kernels = &kernels;
#else
const Kernels* const avx512bf16_kernels = nullptr;
#endif
}  // namespace condense
