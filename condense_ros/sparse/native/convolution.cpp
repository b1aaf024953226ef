// Sparse convolution on the CPU: tiles of output rows, spread over threads.
//
// Every output row is summed by one thread in the order of the kernel's offsets, so results do not
// depend on the number of threads.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernels.h"

namespace condense {
namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};
template <typename T>
using Buffer = std::unique_ptr<T[], Free>;

template <typename T>
Buffer<T> buffer(int64_t count) {
  const size_t bytes = (std::max<int64_t>(count, 1) * sizeof(T) + 63) / 64 * 64;
  void* p = std::aligned_alloc(64, bytes);
  if (!p) std::abort();
  return Buffer<T>(static_cast<T*>(p));
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Output channels are cut into blocks of at most `max_vectors` vectors, all as wide as possible.
struct Blocks {
  int64_t vectors, count;
  int widest;
  Blocks(int64_t channels, const Kernels& k) {
    vectors = ceil_div(channels, k.lanes);
    count = ceil_div(vectors, k.max_vectors);
    widest = int(ceil_div(vectors, count));
  }
  int64_t first(int64_t block) const { return block * widest; }
  int width(int64_t block) const { return int(std::min<int64_t>(widest, vectors - first(block))); }
};

// Rows of a tile: their sums take about this much of the second-level cache.
constexpr int64_t TILE_BYTES = 160 << 10;
constexpr int64_t MIN_TILE = 64, MAX_TILE = 1024;

int64_t tile_rows(int64_t rows, int64_t row_bytes, int64_t blocks, int threads) {
  int64_t tile = std::clamp(TILE_BYTES / row_bytes, MIN_TILE, MAX_TILE);
  // several tiles a thread, so that an uneven load evens out
  while (tile > MIN_TILE && ceil_div(rows, tile) * blocks < 4 * threads) tile /= 2;
  return tile;
}

template <typename T>
struct Access;
template <>
struct Access<float> {
  static auto rows(const Kernels& k) { return k.rows_f32; }
  static auto finish(const Kernels& k) { return k.finish_f32; }
  static auto gather(const Kernels& k) { return k.gather_f32; }
  static int64_t padded(int64_t c_in, const Kernels&) { return c_in; }
};
template <>
struct Access<bf16> {
  static auto rows(const Kernels& k) { return k.rows_bf16; }
  static auto finish(const Kernels& k) { return k.finish_bf16; }
  static auto gather(const Kernels& k) { return k.gather_bf16; }
  static int64_t padded(int64_t c_in, const Kernels& k) {
    return ceil_div(c_in, k.k_multiple) * k.k_multiple;
  }
};

template <typename T>
void convolve(const T* x, int64_t x_stride, int64_t c_in, const T* weights, const int32_t* source,
              const int32_t* target, const int64_t* runs, int kernel, int identity, int64_t n_target,
              int64_t c_out, const Epilogue& epilogue, T* out, int64_t out_stride, int threads) {
  const Kernels& k = active();
  const Blocks blocks(c_out, k);
  const int64_t padded = Access<T>::padded(c_in, k);
  const int64_t tile = tile_rows(n_target, blocks.widest * k.lanes * 4, blocks.count, threads);
  const int64_t tasks = ceil_div(n_target, tile) * blocks.count;
#pragma omp parallel num_threads(threads)
  {
    auto sums = buffer<float>(tile * blocks.widest * k.lanes);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t block = task % blocks.count;
      const int64_t start = task / blocks.count * tile, end = std::min(start + tile, n_target);
      const int vectors = blocks.width(block);
      const int64_t width = vectors * k.lanes, channel = blocks.first(block) * k.lanes;
      std::memset(sums.get(), 0, (end - start) * width * sizeof(float));
      // weights are packed block by block, offset by offset
      const T* packed = weights + blocks.first(block) * k.lanes * kernel * padded;
      for (int offset = 0; offset < kernel; ++offset) {
        Pairs pairs{nullptr, nullptr, end - start, start};
        if (offset != identity) {
          const int32_t* first = target + runs[offset];
          const int32_t* last = target + runs[offset + 1];
          const int32_t* from = std::lower_bound(first, last, int32_t(start));
          const int32_t* to = std::lower_bound(from, last, int32_t(end));
          pairs = {source + (from - target), from, to - from, start};
        }
        if (pairs.count) {
          Access<T>::rows(k)(x, x_stride, pairs, packed + offset * padded * width, padded, vectors,
                             sums.get());
        }
      }
      Epilogue here = epilogue;
      if (here.scale) here.scale += channel;
      if (here.shift) here.shift += channel;
      if (here.residual) {
        here.residual =
            static_cast<const T*>(here.residual) + start * here.residual_stride + channel;
      }
      Access<T>::finish(k)(sums.get(), width, end - start, std::min(width, c_out - channel), here,
                           out + start * out_stride + channel, out_stride);
    }
  }
}

inline bf16 round_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16((bits >> 16) | 0x40);
  return bf16((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

// (K, C_in, C_out) float32 weights, or their transpose per offset, in the order `convolve` reads.
template <typename T>
void pack(const float* weights, int kernel, int64_t c_in, int64_t c_out, bool transposed, T* packed,
          int threads) {
  const Kernels& k = active();
  const int64_t rows = transposed ? c_out : c_in, columns = transposed ? c_in : c_out;
  const Blocks blocks(columns, k);
  const int64_t padded = Access<T>::padded(rows, k);
  const int64_t row_step = transposed ? 1 : c_out, column_step = transposed ? c_out : 1;
  const int64_t tasks = blocks.count * kernel;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t block = task / kernel, offset = task % kernel;
    const int64_t first = blocks.first(block) * k.lanes, width = blocks.width(block) * k.lanes;
    T* to = packed + (first * kernel + offset * width) * padded;
    const float* from = weights + offset * c_in * c_out;
    const int64_t known = std::min(width, columns - first);
    if constexpr (sizeof(T) == 4) {
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < width; ++c) {
          to[r * width + c] =
              c < known ? from[r * row_step + (first + c) * column_step] : 0.0f;
        }
      }
    } else {
      for (int64_t r = 0; r < padded; ++r) {
        T* line = to + (r / 2) * width * 2 + r % 2;
        for (int64_t c = 0; c < width; ++c) {
          line[2 * c] = r < rows && c < known
                            ? round_bf16(from[r * row_step + (first + c) * column_step])
                            : T(0);
        }
      }
    }
  }
}

// ---- weight gradient ---------------------------------------------------------------------------------

// Rows packed at a time, in steps of the product: their block of output channels stays in the first
// cache while all input channels pass.
constexpr int64_t STEPS = 64;
constexpr int64_t C_IN_BLOCK = 128;  // input channels of one task

template <typename T>
void weight_gradient(const T* x, int64_t x_stride, int64_t c_in, const T* g, int64_t g_stride,
                     int64_t c_out, const int32_t* source, const int32_t* target,
                     const int64_t* runs, int kernel, int identity, int64_t rows, float* out,
                     int threads) {
  const Kernels& k = active();
  const Blocks blocks(c_out, k);
  const int64_t width = blocks.vectors * k.lanes;
  const int64_t parts = ceil_div(c_in, C_IN_BLOCK);
  const int64_t tasks = kernel * parts;
#pragma omp parallel num_threads(threads)
  {
    auto sums = buffer<float>(C_IN_BLOCK * width);
    constexpr int64_t PER_STEP = 4 / sizeof(T), CHUNK = STEPS * PER_STEP;
    auto x_rows = buffer<T>(CHUNK * C_IN_BLOCK);
    auto g_rows = buffer<T>(CHUNK * width);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
      // the identity has the most rows: it goes first, the others fill the gaps
      int64_t offset = task / parts;
      if (identity >= 0) offset = offset == 0 ? identity : offset - (offset <= identity);
      const int64_t channel = task % parts * C_IN_BLOCK;
      const int64_t channels = std::min(C_IN_BLOCK, c_in - channel);
      const bool self = offset == identity;
      const int32_t* from = self ? nullptr : source + runs[offset];
      const int32_t* to = self ? nullptr : target + runs[offset];
      const int64_t count = self ? rows : runs[offset + 1] - runs[offset];
      std::memset(sums.get(), 0, channels * width * sizeof(float));
      for (int64_t first = 0; first < count; first += CHUNK) {
        const int64_t now = std::min(CHUNK, count - first);
        Access<T>::gather(k)(x + channel, x_stride, from, first, now, channels, channels,
                             x_rows.get());
        Access<T>::gather(k)(g, g_stride, to, first, now, c_out, width, g_rows.get());
        for (int64_t block = 0; block < blocks.count; ++block) {
          const int64_t column = blocks.first(block) * k.lanes;
          if constexpr (sizeof(T) == 4) {
            k.outer_f32(x_rows.get(), channels, g_rows.get() + column, width, now, channels,
                        blocks.width(block), sums.get() + column, width);
          } else {
            k.outer_bf16(reinterpret_cast<uint32_t*>(x_rows.get()), channels,
                         reinterpret_cast<uint32_t*>(g_rows.get()) + column, width,
                         ceil_div(now, 2), channels, blocks.width(block), sums.get() + column,
                         width);
          }
        }
      }
      for (int64_t c = 0; c < channels; ++c) {
        std::memcpy(out + ((offset * c_in) + channel + c) * c_out, sums.get() + c * width,
                    c_out * sizeof(float));
      }
    }
  }
}

}  // namespace
}  // namespace condense

using namespace condense;

extern "C" {

// Elements of packed weights.
int64_t condense_packed_size(int bits, int kernel, int64_t c_in, int64_t c_out) {
  const Kernels& k = active();
  const int64_t padded = bits == 32 ? c_in : Access<bf16>::padded(c_in, k);
  return kernel * padded * ceil_div(c_out, k.lanes) * k.lanes;
}

void condense_pack(int bits, const float* weights, int kernel, int64_t c_in, int64_t c_out,
                   int transposed, void* packed, int threads) {
  if (bits == 32) {
    pack(weights, kernel, c_in, c_out, transposed != 0, static_cast<float*>(packed), threads);
  } else {
    pack(weights, kernel, c_in, c_out, transposed != 0, static_cast<bf16*>(packed), threads);
  }
}

// Input channels that a row of bfloat16 inputs must have behind its pointer, zeros included.
int64_t condense_padded_channels(int bits, int64_t c_in) {
  return bits == 32 ? c_in : Access<bf16>::padded(c_in, active());
}

void condense_convolve(int bits, const void* x, int64_t x_stride, int64_t c_in, const void* weights,
                       const int32_t* source, const int32_t* target, const int64_t* runs, int kernel,
                       int identity, int64_t n_target, int64_t c_out, const float* scale,
                       const float* shift, const void* residual, int64_t residual_stride, int relu,
                       void* out, int64_t out_stride, int threads) {
  const Epilogue epilogue{scale, shift, residual, residual_stride, relu};
  if (bits == 32) {
    convolve(static_cast<const float*>(x), x_stride, c_in, static_cast<const float*>(weights),
             source, target, runs, kernel, identity, n_target, c_out, epilogue,
             static_cast<float*>(out), out_stride, threads);
  } else {
    convolve(static_cast<const bf16*>(x), x_stride, c_in, static_cast<const bf16*>(weights), source,
             target, runs, kernel, identity, n_target, c_out, epilogue, static_cast<bf16*>(out),
             out_stride, threads);
  }
}

void condense_weight_gradient(int bits, const void* x, int64_t x_stride, int64_t c_in, const void* g,
                              int64_t g_stride, int64_t c_out, const int32_t* source,
                              const int32_t* target, const int64_t* runs, int kernel, int identity,
                              int64_t rows, float* out, int threads) {
  if (bits == 32) {
    weight_gradient(static_cast<const float*>(x), x_stride, c_in, static_cast<const float*>(g),
                    g_stride, c_out, source, target, runs, kernel, identity, rows, out, threads);
  } else {
    weight_gradient(static_cast<const bf16*>(x), x_stride, c_in, static_cast<const bf16*>(g),
                    g_stride, c_out, source, target, runs, kernel, identity, rows, out, threads);
  }
}

}  // extern "C"
