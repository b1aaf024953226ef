// Products of gathered rows on AMX tiles: 16 rows by 16 output channels by 32 input channels at a time.
// Included after loops.h, whose dot products take the few rows left over. The names tile_* are the
// processor's instructions, or, in kernels_amx_emulated.cpp, what its manual says they compute.

// Fewest rows that are worth a tile.
constexpr int64_t FEW = 4;

template <int VECTORS>
void tile_rows(const bf16* x, int64_t x_stride, const Pairs& pairs, const bf16* weights, int64_t c_in,
               float* sums) {
  alignas(64) bf16 a[16 * 32];
  alignas(64) float products[VECTORS][16 * 16];
  constexpr int64_t WIDTH = VECTORS * 16;
  int64_t p = 0;
  tile_configure();
  for (; p < pairs.count && pairs.count - p >= FEW; p += 16) {
    const int64_t rows = pairs.count - p < 16 ? pairs.count - p : 16;
    tile_zero<0>();
    if (VECTORS > 1) tile_zero<1>();
    if (VECTORS > 2) tile_zero<2>();
    if (VECTORS > 3) tile_zero<3>();
    if (VECTORS > 4) tile_zero<4>();
    if (VECTORS > 5) tile_zero<5>();
    if (rows < 16) __builtin_memset(a, 0, sizeof(a));
    for (int64_t c = 0; c < c_in; c += 32) {
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = pairs.source ? pairs.source[p + i] : pairs.base + p + i;
        __builtin_memcpy(a + i * 32, x + row * x_stride + c, 64);
      }
      tile_load<6>(a, 64);
      // packed weights: two input channels side by side, as the tile instruction wants them
      const bf16* w = weights + c * WIDTH;
      tile_load<7>(w, WIDTH * 4);
      tile_dot<0>();
      if (VECTORS > 1) tile_load<7>(w + 32, WIDTH * 4), tile_dot<1>();
      if (VECTORS > 2) tile_load<7>(w + 64, WIDTH * 4), tile_dot<2>();
      if (VECTORS > 3) tile_load<7>(w + 96, WIDTH * 4), tile_dot<3>();
      if (VECTORS > 4) tile_load<7>(w + 128, WIDTH * 4), tile_dot<4>();
      if (VECTORS > 5) tile_load<7>(w + 160, WIDTH * 4), tile_dot<5>();
    }
    tile_store<0>(products[0]);
    if (VECTORS > 1) tile_store<1>(products[1]);
    if (VECTORS > 2) tile_store<2>(products[2]);
    if (VECTORS > 3) tile_store<3>(products[3]);
    if (VECTORS > 4) tile_store<4>(products[4]);
    if (VECTORS > 5) tile_store<5>(products[5]);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = pairs.target ? pairs.target[p + i] - pairs.base : p + i;
      float* sum = sums + row * WIDTH;
      UNROLL for (int j = 0; j < VECTORS; ++j) {
        store(sum + j * 16, load(sum + j * 16) + load(products[j] + i * 16));
      }
    }
  }
  tile_release();
  if (p < pairs.count) {
    Pairs rest = pairs;
    if (pairs.source) rest.source += p;
    if (pairs.target) {
      rest.target += p;
    } else {
      // rows that meet themselves: the sums move along with the rows
      rest.base += p;
      sums += p * WIDTH;
    }
    rest.count -= p;
    all_rows<bf16, VECTORS>(x, x_stride, rest, weights, c_in, sums);
  }
}

void rows_on_tiles(const bf16* x, int64_t x_stride, const Pairs& pairs, const bf16* weights,
                   int64_t c_in, int vectors, float* sums) {
  switch (vectors) {
    case 1: return tile_rows<1>(x, x_stride, pairs, weights, c_in, sums);
    case 2: return tile_rows<2>(x, x_stride, pairs, weights, c_in, sums);
    case 3: return tile_rows<3>(x, x_stride, pairs, weights, c_in, sums);
    case 4: return tile_rows<4>(x, x_stride, pairs, weights, c_in, sums);
    case 5: return tile_rows<5>(x, x_stride, pairs, weights, c_in, sums);
    case 6: return tile_rows<6>(x, x_stride, pairs, weights, c_in, sums);
  }
}

const Kernels tiled_kernels = {
    ISA_NAME,         LANES,
    MAX_VECTORS,      32,
    rows<float>,      rows_on_tiles,
    gather_f32,       gather_bf16,
    outer<float>,     outer<uint32_t>,
    finish<float>,    finish<bf16>,
};
