// The kernels of kernels_amx.cpp with the tile instructions written out, for any processor: slow, never
// chosen by itself, there so that the tiles' logic can be tested where no processor has them.
#include <cstring>

#include "kernels.h"

namespace condense {
namespace {
#define ISA_NAME "amx-emulated"
#define LANES 16
#define REGISTERS 32
#define MAX_VECTORS 6

struct Tiles {
  uint8_t data[8][16][64];
};
thread_local Tiles tiles;

inline void tile_configure() { std::memset(&tiles, 0, sizeof(tiles)); }
inline void tile_release() { std::memset(&tiles, 0xff, sizeof(tiles)); }
template <int TILE>
void tile_zero() {
  std::memset(tiles.data[TILE], 0, sizeof(tiles.data[TILE]));
}
template <int TILE>
void tile_load(const void* from, int64_t stride) {
  for (int row = 0; row < 16; ++row) {
    std::memcpy(tiles.data[TILE][row], static_cast<const char*>(from) + row * stride, 64);
  }
}
template <int TILE>
void tile_store(float* to) {
  std::memcpy(to, tiles.data[TILE], sizeof(tiles.data[TILE]));
}
inline float from_bf16(uint16_t value) {
  const uint32_t bits = uint32_t(value) << 16;
  float number;
  std::memcpy(&number, &bits, 4);
  return number;
}
template <int TILE>
void tile_dot() {
  float sum[16][16];
  uint16_t a[16][32], b[16][32];
  std::memcpy(sum, tiles.data[TILE], sizeof(sum));
  std::memcpy(a, tiles.data[6], sizeof(a));
  std::memcpy(b, tiles.data[7], sizeof(b));
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 16; ++n) {
        sum[m][n] += from_bf16(a[m][2 * k]) * from_bf16(b[k][2 * n]);
        sum[m][n] += from_bf16(a[m][2 * k + 1]) * from_bf16(b[k][2 * n + 1]);
      }
    }
  }
  std::memcpy(tiles.data[TILE], sum, sizeof(sum));
}
#include "loops.h"
#include "amx_rows.h"
}  // namespace
const Kernels* const amx_emulated_kernels = &tiled_kernels;
}  // namespace condense
