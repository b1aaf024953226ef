// x86-64 with AVX-512 and AMX tiles for bfloat16.
#include "kernels.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace condense {
#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
namespace {
#define ISA_NAME "amx"
#define LANES 16
#define REGISTERS 32
#define MAX_VECTORS 6
#include "dot_avx512bf16.h"

// What another library had configured on this thread comes back afterwards.
thread_local struct alignas(64) {
  uint8_t bytes[64];
} configured_before;

inline void tile_configure() {
  _tile_storeconfig(&configured_before);
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  _tile_loadconfig(&config);
}
inline void tile_release() { _tile_loadconfig(&configured_before); }
// the compiler's own macros take literal numbers only, not template arguments
template <int TILE>
inline __attribute__((always_inline)) void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}
template <int TILE>
inline __attribute__((always_inline)) void tile_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE>
inline __attribute__((always_inline)) void tile_dot() {
  asm volatile("tdpbf16ps %%tmm7, %%tmm6, %%tmm%c0" ::"i"(TILE));
}
template <int TILE>
inline __attribute__((always_inline)) void tile_store(float* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(int64_t(64)), "i"(TILE) : "memory");
}
#include "loops.h"
#include "amx_rows.h"
}  // namespace
const Kernels* const amx_kernels = &tiled_kernels;
#else
const Kernels* const amx_kernels = nullptr;
#endif
}  // namespace condense
