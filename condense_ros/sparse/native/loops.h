// Loops over vectors of LANES floats, compiled once per instruction set. Written with the vector
// extensions of GCC and Clang; a source file defines LANES, and DOT_BF16 where the processor
// multiplies bfloat16 pairs itself, and includes this file inside its own unnamed namespace.

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef float VecU __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(LANES * 4)));
typedef uint32_t BitsU __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

INLINE Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
INLINE void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
INLINE Bits load_bits(const void* p) { return *reinterpret_cast<const BitsU*>(p); }
INLINE uint32_t load_word(const void* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}
INLINE float as_float(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
INLINE float widen(bf16 value) { return as_float(uint32_t(value) << 16); }
INLINE bf16 narrow(float value) {  // to nearest, ties to even; a NaN stays one
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16((bits >> 16) | 0x40);
  return bf16((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// sum + low * low' + high * high' of bfloat16 pairs, the low half being the even channel
#ifndef DOT_BF16
INLINE Vec dot(Vec sum, Bits weights, uint32_t x) {
  const Vec even = (Vec)(weights << 16), odd = (Vec)(weights & 0xffff0000u);
  sum += even * as_float(x << 16);
  sum += odd * as_float(x & 0xffff0000u);
  return sum;
}
#endif

// ---- products of gathered rows ------------------------------------------------------------------

template <int ROWS, int VECTORS>
INLINE void block_f32(const float* const* x, const float* weights, int64_t c_in, float* const* sums) {
  Vec sum[ROWS][VECTORS];
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] = load(sums[i] + j * LANES);
  }
  for (int64_t c = 0; c < c_in; ++c, weights += VECTORS * LANES) {
    Vec w[VECTORS];
    UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = load(weights + j * LANES);
    UNROLL for (int i = 0; i < ROWS; ++i) {
      const float value = x[i][c];
      UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] += w[j] * value;
    }
  }
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) store(sums[i] + j * LANES, sum[i][j]);
  }
}

template <int ROWS, int VECTORS>
INLINE void block_bf16(const bf16* const* x, const bf16* weights, int64_t c_in, float* const* sums) {
  Vec sum[ROWS][VECTORS];
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] = load(sums[i] + j * LANES);
  }
  for (int64_t c = 0; c < c_in; c += 2, weights += 2 * VECTORS * LANES) {
    Bits w[VECTORS];
    UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = load_bits(weights + 2 * j * LANES);
    UNROLL for (int i = 0; i < ROWS; ++i) {
      const uint32_t value = load_word(x[i] + c);
      UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] = dot(sum[i][j], w[j], value);
    }
  }
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) store(sums[i] + j * LANES, sum[i][j]);
  }
}

template <typename T, int ROWS, int VECTORS>
INLINE void block(const T* const* x, const T* weights, int64_t c_in, float* const* sums) {
  if constexpr (sizeof(T) == 4) {
    block_f32<ROWS, VECTORS>(x, weights, c_in, sums);
  } else {
    block_bf16<ROWS, VECTORS>(x, weights, c_in, sums);
  }
}

// rows at a time, so that sums, weights and one value fit the vector registers
template <int VECTORS>
constexpr int rows_at_once() {
  constexpr int sums = REGISTERS - VECTORS - 2;
  constexpr int rows = sums / VECTORS;
  return rows > 8 ? 8 : rows;
}

template <typename T, int ROWS, int VECTORS>
INLINE void some_rows(const T* x, int64_t x_stride, const Pairs& pairs, int64_t first,
                      const T* weights, int64_t c_in, float* sums) {
  const T* rows[ROWS];
  float* out[ROWS];
  UNROLL for (int i = 0; i < ROWS; ++i) {
    const int64_t p = first + i;
    rows[i] = x + (pairs.source ? pairs.source[p] : pairs.base + p) * x_stride;
    out[i] = sums + (pairs.target ? pairs.target[p] - pairs.base : p) * (VECTORS * LANES);
  }
  block<T, ROWS, VECTORS>(rows, weights, c_in, out);
}

template <typename T, int VECTORS>
void all_rows(const T* x, int64_t x_stride, const Pairs& pairs, const T* weights, int64_t c_in,
              float* sums) {
  constexpr int ROWS = rows_at_once<VECTORS>();
  int64_t p = 0;
  for (; p + ROWS <= pairs.count; p += ROWS) {
    if (pairs.source && p + 2 * ROWS <= pairs.count) {
      UNROLL for (int i = 0; i < ROWS; ++i) {
        const char* next =
            reinterpret_cast<const char*>(x + pairs.source[p + ROWS + i] * x_stride);
        __builtin_prefetch(next);
        __builtin_prefetch(next + 64);
      }
    }
    some_rows<T, ROWS, VECTORS>(x, x_stride, pairs, p, weights, c_in, sums);
  }
  if (ROWS > 4 && p + 4 <= pairs.count) {
    some_rows<T, 4, VECTORS>(x, x_stride, pairs, p, weights, c_in, sums);
    p += 4;
  }
  if (ROWS > 2 && p + 2 <= pairs.count) {
    some_rows<T, 2, VECTORS>(x, x_stride, pairs, p, weights, c_in, sums);
    p += 2;
  }
  for (; p < pairs.count; ++p) some_rows<T, 1, VECTORS>(x, x_stride, pairs, p, weights, c_in, sums);
}

template <typename T>
void rows(const T* x, int64_t x_stride, const Pairs& pairs, const T* weights, int64_t c_in,
          int vectors, float* sums) {
  switch (vectors) {
    case 1: return all_rows<T, 1>(x, x_stride, pairs, weights, c_in, sums);
    case 2: return all_rows<T, 2>(x, x_stride, pairs, weights, c_in, sums);
    case 3: return all_rows<T, 3>(x, x_stride, pairs, weights, c_in, sums);
#if MAX_VECTORS > 3
    case 4: return all_rows<T, 4>(x, x_stride, pairs, weights, c_in, sums);
    case 5: return all_rows<T, 5>(x, x_stride, pairs, weights, c_in, sums);
    case 6: return all_rows<T, 6>(x, x_stride, pairs, weights, c_in, sums);
#endif
  }
}

// ---- products over rows: weight gradients ---------------------------------------------------------

void gather_f32(const float* x, int64_t x_stride, const int32_t* rows, int64_t first, int64_t count,
                int64_t channels, int64_t width, float* to) {
  for (int64_t p = 0; p < count; ++p, to += width) {
    const float* __restrict from = x + (rows ? rows[first + p] : first + p) * x_stride;
    for (int64_t c = 0; c < channels; ++c) to[c] = from[c];
    for (int64_t c = channels; c < width; ++c) to[c] = 0.0f;
  }
}

void gather_bf16(const bf16* x, int64_t x_stride, const int32_t* rows, int64_t first, int64_t count,
                 int64_t channels, int64_t width, bf16* to) {
  uint32_t* __restrict words = reinterpret_cast<uint32_t*>(to);
  for (int64_t p = 0; p < count; p += 2, words += width) {
    const bool alone = p + 1 == count;
    const bf16* __restrict a = x + (rows ? rows[first + p] : first + p) * x_stride;
    const bf16* __restrict b =
        alone ? a : x + (rows ? rows[first + p + 1] : first + p + 1) * x_stride;
    const uint32_t keep = alone ? 0 : 0xffff0000u;
    for (int64_t c = 0; c < channels; ++c) words[c] = a[c] | ((uint32_t(b[c]) << 16) & keep);
    for (int64_t c = channels; c < width; ++c) words[c] = 0;
  }
}

template <typename T, int ROWS, int VECTORS>
INLINE void outer_block(const T* x, int64_t x_stride, const T* g, int64_t g_stride, int64_t count,
                        float* sums, int64_t sums_stride) {
  Vec sum[ROWS][VECTORS];
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] = load(sums + i * sums_stride + j * LANES);
  }
  for (int64_t p = 0; p < count; ++p, x += x_stride, g += g_stride) {
    if constexpr (std::is_same_v<T, float>) {
      Vec w[VECTORS];
      UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = load(g + j * LANES);
      UNROLL for (int i = 0; i < ROWS; ++i) {
        const float value = x[i];
        UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] += w[j] * value;
      }
    } else {
      Bits w[VECTORS];
      UNROLL for (int j = 0; j < VECTORS; ++j) w[j] = load_bits(g + j * LANES);
      UNROLL for (int i = 0; i < ROWS; ++i) {
        const uint32_t value = x[i];
        UNROLL for (int j = 0; j < VECTORS; ++j) sum[i][j] = dot(sum[i][j], w[j], value);
      }
    }
  }
  UNROLL for (int i = 0; i < ROWS; ++i) {
    UNROLL for (int j = 0; j < VECTORS; ++j) store(sums + i * sums_stride + j * LANES, sum[i][j]);
  }
}

template <typename T, int VECTORS>
void outer_all(const T* x, int64_t x_stride, const T* g, int64_t g_stride, int64_t count,
               int64_t c_in, float* sums, int64_t sums_stride) {
  constexpr int ROWS = rows_at_once<VECTORS>();
  int64_t c = 0;
  for (; c + ROWS <= c_in; c += ROWS) {
    outer_block<T, ROWS, VECTORS>(x + c, x_stride, g, g_stride, count, sums + c * sums_stride,
                                  sums_stride);
  }
  for (; c + 2 <= c_in; c += 2) {
    outer_block<T, 2, VECTORS>(x + c, x_stride, g, g_stride, count, sums + c * sums_stride,
                               sums_stride);
  }
  if (c < c_in) {
    outer_block<T, 1, VECTORS>(x + c, x_stride, g, g_stride, count, sums + c * sums_stride,
                               sums_stride);
  }
}

template <typename T>
void outer(const T* x, int64_t x_stride, const T* g, int64_t g_stride, int64_t count, int64_t c_in,
           int vectors, float* sums, int64_t sums_stride) {
  switch (vectors) {
    case 1: return outer_all<T, 1>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
    case 2: return outer_all<T, 2>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
    case 3: return outer_all<T, 3>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
#if MAX_VECTORS > 3
    case 4: return outer_all<T, 4>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
    case 5: return outer_all<T, 5>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
    case 6: return outer_all<T, 6>(x, x_stride, g, g_stride, count, c_in, sums, sums_stride);
#endif
  }
}

// ---- finished sums ---------------------------------------------------------------------------------

template <typename T>
void finish(const float* sums, int64_t sums_stride, int64_t rows, int64_t channels,
            const Epilogue& epilogue, T* out, int64_t out_stride) {
  const T* residual = static_cast<const T*>(epilogue.residual);
  const float* __restrict scale = epilogue.scale;
  const float* __restrict shift = epilogue.shift;
  float line[MAX_VECTORS * LANES];
  for (int64_t r = 0; r < rows; ++r) {
    const float* __restrict sum = sums + r * sums_stride;
    for (int64_t c = 0; c < channels; ++c) line[c] = sum[c];
    if (scale) {
      for (int64_t c = 0; c < channels; ++c) line[c] *= scale[c];
    }
    if (shift) {
      for (int64_t c = 0; c < channels; ++c) line[c] += shift[c];
    }
    if (residual) {
      const T* __restrict add = residual + r * epilogue.residual_stride;
      for (int64_t c = 0; c < channels; ++c) {
        if constexpr (sizeof(T) == 4) {
          line[c] += add[c];
        } else {
          line[c] += widen(add[c]);
        }
      }
    }
    if (epilogue.relu) {  // a NaN stays one
      for (int64_t c = 0; c < channels; ++c) line[c] = line[c] < 0.0f ? 0.0f : line[c];
    }
    T* __restrict to = out + r * out_stride;
    for (int64_t c = 0; c < channels; ++c) {
      if constexpr (sizeof(T) == 4) {
        to[c] = line[c];
      } else {
        to[c] = narrow(line[c]);
      }
    }
  }
}

const Kernels kernels = {
    ISA_NAME,         LANES,
    MAX_VECTORS,      2,
    rows<float>,      rows<bf16>,
    gather_f32,       gather_bf16,
    outer<float>,     outer<uint32_t>,
    finish<float>,    finish<bf16>,
};
