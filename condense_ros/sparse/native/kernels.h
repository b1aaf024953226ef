// The innermost loops of the sparse engine, one table of functions per instruction set.
//
// A convolution is computed tile by tile: a tile is a run of output rows whose sums stay in a small
// float32 buffer in cache. For every kernel offset the rows that have a partner are multiplied where
// they lie: no gathered copy of the inputs, no scattered write of the products.
#pragma once
#include <cstdint>
#include <type_traits>

namespace condense {

typedef uint16_t bf16;  // bit pattern of a bfloat16

// Pairs of one kernel offset that fall into one tile; null lists mean row base + i meets itself.
struct Pairs {
  const int32_t* source;
  const int32_t* target;
  int64_t count;
  int64_t base;  // first output row of the tile
};

// What happens to a finished sum before it is written: sum * scale + shift + residual, rectified.
struct Epilogue {
  const float* scale;  // per output channel, or null
  const float* shift;  // per output channel, or null
  const void* residual;  // rows like the output's, or null
  int64_t residual_stride;
  int relu;
};

struct Kernels {
  const char* name;
  int lanes;       // floats per vector
  int max_vectors;  // widest block of output channels, in vectors
  int k_multiple;  // input channels of packed bfloat16 weights are padded to a multiple of this

  // sums[target - base, :] += x[source, :] @ weights, for `vectors` * lanes output channels
  void (*rows_f32)(const float* x, int64_t x_stride, const Pairs& pairs, const float* weights,
                   int64_t c_in, int vectors, float* sums);
  void (*rows_bf16)(const bf16* x, int64_t x_stride, const Pairs& pairs, const bf16* weights,
                    int64_t c_in, int vectors, float* sums);

  // packs rows first .. first + count (of a list, or of the input itself), padded with zeros to `width`
  // channels; bfloat16 rows two by two: channel by channel side by side, a missing last row zero
  void (*gather_f32)(const float* x, int64_t x_stride, const int32_t* rows, int64_t first,
                     int64_t count, int64_t channels, int64_t width, float* to);
  void (*gather_bf16)(const bf16* x, int64_t x_stride, const int32_t* rows, int64_t first,
                      int64_t count, int64_t channels, int64_t width, bf16* to);

  // sums[c_in, c_out] += x^T g over packed rows; c_out is `vectors` * lanes, c_in any
  void (*outer_f32)(const float* x, int64_t x_stride, const float* g, int64_t g_stride, int64_t rows,
                    int64_t c_in, int vectors, float* sums, int64_t sums_stride);
  // the same over pairs of rows: element (p, c) of x and g holds rows 2p and 2p + 1
  void (*outer_bf16)(const uint32_t* x, int64_t x_stride, const uint32_t* g, int64_t g_stride,
                     int64_t row_pairs, int64_t c_in, int vectors, float* sums, int64_t sums_stride);

  void (*finish_f32)(const float* sums, int64_t sums_stride, int64_t rows, int64_t channels,
                     const Epilogue& epilogue, float* out, int64_t out_stride);
  void (*finish_bf16)(const float* sums, int64_t sums_stride, int64_t rows, int64_t channels,
                      const Epilogue& epilogue, bf16* out, int64_t out_stride);
};

// tables that were compiled in; null where the compiler or the architecture has no such instructions
extern const Kernels* const base_kernels;
extern const Kernels* const avx2_kernels;
extern const Kernels* const avx512_kernels;
extern const Kernels* const avx512bf16_kernels;
extern const Kernels* const amx_kernels;
extern const Kernels* const amx_emulated_kernels;

// the table in use on this machine
const Kernels& active();

}  // namespace condense
