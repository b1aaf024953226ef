// Geometry of sparse convolutions on the CPU: sorting packed coordinates, coarser voxels, neighbours.
//
// A key is 12 bits of batch and 17 bits each of x, y and z, biased (see keys.py). Keys of one level
// are sorted, so the neighbours at one offset are found by walking two sorted sequences side by side,
// and one walk serves a whole column of the kernel along z.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int BITS = 17;
constexpr int64_t BIAS = int64_t(1) << (BITS - 1), MASK = (int64_t(1) << BITS) - 1;

inline int64_t field(int64_t key, int axis) { return (key >> (BITS * (2 - axis))) & MASK; }

inline int width_of(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }

// Takes the bits out of a key that all keys share: fields relative to their minimum, side by side.
struct Squeeze {
  int64_t low[4];
  int shift[4], bits = 0;

  Squeeze(const int64_t* keys, int64_t n) {
    int64_t high[4];
    for (int f = 0; f < 4; ++f) low[f] = INT64_MAX, high[f] = INT64_MIN;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t k = keys[i];
      const int64_t v[4] = {k >> (3 * BITS), field(k, 0), field(k, 1), field(k, 2)};
      for (int f = 0; f < 4; ++f) {
        low[f] = std::min(low[f], v[f]);
        high[f] = std::max(high[f], v[f]);
      }
    }
    for (int f = 3; f >= 0; --f) {
      shift[f] = bits;
      bits += n ? width_of(uint64_t(high[f] - low[f])) : 0;
    }
  }
  uint64_t operator()(int64_t k) const {
    return (uint64_t((k >> (3 * BITS)) - low[0]) << shift[0]) |
           (uint64_t(field(k, 0) - low[1]) << shift[1]) |
           (uint64_t(field(k, 1) - low[2]) << shift[2]) | (uint64_t(field(k, 2) - low[3]) << shift[3]);
  }
};

struct Entry {
  uint64_t key;
  int32_t row;
};

// Least significant digit first; stable.
template <typename T, typename Digit>
void radix_sort(std::vector<T>& items, int bits, Digit digit) {
  constexpr int STEP = 11;
  std::vector<T> other(items.size());
  std::vector<uint32_t> counts(size_t(1) << STEP);
  for (int shift = 0; shift < bits; shift += STEP) {
    std::fill(counts.begin(), counts.end(), 0);
    for (const T& item : items) ++counts[(digit(item) >> shift) & ((1u << STEP) - 1)];
    uint32_t sum = 0;
    for (uint32_t& count : counts) {
      const uint32_t here = count;
      count = sum;
      sum += here;
    }
    for (const T& item : items) other[counts[(digit(item) >> shift) & ((1u << STEP) - 1)]++] = item;
    items.swap(other);
  }
}

// order[i]: row of the i-th smallest key; equal keys keep their order.
void argsort(const int64_t* keys, int64_t n, int32_t* order) {
  bool sorted = true;
  for (int64_t i = 1; i < n && sorted; ++i) sorted = keys[i - 1] <= keys[i];
  if (sorted) {
    for (int64_t i = 0; i < n; ++i) order[i] = int32_t(i);
    return;
  }
  const Squeeze squeeze(keys, n);
  if (squeeze.bits <= 32) {
    std::vector<uint64_t> items(n);
    for (int64_t i = 0; i < n; ++i) items[i] = (squeeze(keys[i]) << 32) | uint32_t(i);
    radix_sort(items, squeeze.bits, [](uint64_t item) { return item >> 32; });
    for (int64_t i = 0; i < n; ++i) order[i] = int32_t(uint32_t(items[i]));
  } else {
    std::vector<Entry> items(n);
    for (int64_t i = 0; i < n; ++i) items[i] = {squeeze(keys[i]), int32_t(i)};
    radix_sort(items, squeeze.bits, [](const Entry& item) { return item.key; });
    for (int64_t i = 0; i < n; ++i) order[i] = items[i].row;
  }
}

inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

inline int64_t parent_of(int64_t key, const int32_t* factor) {
  int64_t parent = key >> (3 * BITS);
  for (int axis = 0; axis < 3; ++axis) {
    const int64_t c = field(key, axis) - BIAS;
    const int64_t up = factor[axis] == 2 ? c >> 1 : floor_div(c, factor[axis]);
    parent = (parent << BITS) + up + BIAS;
  }
  return parent;
}

constexpr int64_t CHUNK = 4096;  // queries of one task

}  // namespace

extern "C" {

void condense_argsort(const int64_t* keys, int64_t n, int32_t* order) { argsort(keys, n, order); }

// Sorted distinct keys; inverse[i] is the place of key i among them. Returns their number.
int64_t condense_unique(const int64_t* keys, int64_t n, int64_t* unique, int32_t* inverse) {
  std::vector<int32_t> order(n);
  argsort(keys, n, order.data());
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t key = keys[order[i]];
    if (count == 0 || unique[count - 1] != key) unique[count++] = key;
    inverse[order[i]] = int32_t(count - 1);
  }
  return count;
}

// Voxels `factor` times as large: their sorted keys, and the place of every key's parent in them.
int64_t condense_coarsen(const int64_t* keys, int64_t n, const int32_t* factor, int64_t* coarse,
                         int32_t* parents) {
  std::vector<int64_t> up(n);
  for (int64_t i = 0; i < n; ++i) up[i] = parent_of(keys[i], factor);
  return condense_unique(up.data(), n, coarse, parents);
}

// Pairs of a convolution whose kernel equals its stride, grouped by offset. `counts` has K entries.
void condense_tiled(const int64_t* keys, const int32_t* parents, int64_t n, const int32_t* factor,
                    int32_t* source, int32_t* target, int64_t* counts) {
  const int kernel = factor[0] * factor[1] * factor[2];
  std::vector<int32_t> offset(n);
  std::fill(counts, counts + kernel, 0);
  for (int64_t i = 0; i < n; ++i) {
    int64_t local[3];
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t c = field(keys[i], axis) - BIAS;
      local[axis] = c - floor_div(c, factor[axis]) * factor[axis];
    }
    offset[i] = int32_t((local[0] * factor[1] + local[1]) * factor[2] + local[2]);
    ++counts[offset[i]];
  }
  std::vector<int64_t> next(kernel);
  for (int k = 1; k < kernel; ++k) next[k] = next[k - 1] + counts[k - 1];
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = next[offset[i]]++;
    source[at] = int32_t(i);
    target[at] = parents[i];
  }
}

// Neighbours, first half: where key = query + shift + z * dilation, z = 0 .. depth - 1.
//
// keys (n) and queries (m) are sorted. Column j of the kernel has its own shift[j] and depth[j]; its
// offsets are numbered first[j] + z. Hits of offset k among queries of one task lie together in
// source[k * m + start], target[k * m + start]; counts is (tasks, offsets) with
// tasks = ceil(m / CHUNK).
void condense_walk(const int64_t* keys, int64_t n, const int64_t* queries, int64_t m, int columns,
                   const int64_t* shift, const int32_t* depth, const int32_t* first, int dilation,
                   int offsets, int32_t* source, int32_t* target, int32_t* counts, int threads) {
  const int64_t chunks = (m + CHUNK - 1) / CHUNK;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (int column = 0; column < columns; ++column) {
      const int64_t start = chunk * CHUNK, end = std::min(start + CHUNK, m);
      const int64_t add = shift[column], reach = int64_t(depth[column] - 1) * dilation;
      int32_t* count = counts + chunk * offsets + first[column];
      for (int z = 0; z < depth[column]; ++z) count[z] = 0;
      const int64_t base = int64_t(first[column]) * m + start;
      int64_t at = std::lower_bound(keys, keys + n, queries[start] + add) - keys;
      for (int64_t q = start; q < end; ++q) {
        const int64_t wanted = queries[q] + add;
        while (at < n && keys[at] < wanted) ++at;
        for (int64_t near = at; near < n && keys[near] <= wanted + reach; ++near) {
          const int64_t z = keys[near] - wanted;
          if (dilation > 1 && z % dilation) continue;
          const int64_t k = dilation > 1 ? z / dilation : z;
          const int64_t place = base + k * m + count[k]++;
          source[place] = int32_t(near);
          target[place] = int32_t(q);
        }
      }
    }
  }
}

// Neighbours, second half: closes the gaps that `condense_walk` left. Run k starts at starts[k] in the
// outputs; mirrored runs (starts of offset -k, or null) get source and target exchanged.
void condense_compact(const int32_t* source, const int32_t* target, const int32_t* counts, int64_t m,
                      int offsets, const int64_t* starts, const int64_t* mirrored,
                      int32_t* source_out, int32_t* target_out, int threads) {
  const int64_t chunks = (m + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int k = 0; k < offsets; ++k) {
    int64_t at = starts[k], back = mirrored ? mirrored[k] : 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t from = int64_t(k) * m + chunk * CHUNK;
      const int64_t bytes = counts[chunk * offsets + k] * sizeof(int32_t);
      std::memcpy(source_out + at, source + from, bytes);
      std::memcpy(target_out + at, target + from, bytes);
      at += counts[chunk * offsets + k];
      if (mirrored) {
        std::memcpy(source_out + back, target + from, bytes);
        std::memcpy(target_out + back, source + from, bytes);
        back += counts[chunk * offsets + k];
      }
    }
  }
}

int64_t condense_walk_chunk() { return CHUNK; }

// Keys of the voxels floor(xyz / sizes) of batch element 0. Returns n, or the first row that is not
// finite or farther than `limit` voxels along an axis.
int64_t condense_voxel_keys(int bits, const void* xyz, int64_t n, const double* sizes, int64_t limit,
                            int64_t* keys) {
  for (int64_t i = 0; i < n; ++i) {
    int64_t key = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const double at = bits == 32 ? static_cast<const float*>(xyz)[3 * i + axis]
                                   : static_cast<const double*>(xyz)[3 * i + axis];
      const double cell = std::floor(at / sizes[axis]);
      if (!(std::fabs(cell) <= double(limit))) return i;
      key = (key << BITS) + int64_t(cell) + BIAS;
    }
    keys[i] = key;
  }
  return n;
}

// Means of the features (n, channels) of the points of every voxel; sums in float64.
void condense_mean(const float* features, const int32_t* inverse, int64_t n, int64_t channels,
                   int64_t voxels, float* means) {
  std::vector<double> sums(voxels * channels, 0.0);
  std::vector<int32_t> counts(voxels, 0);
  for (int64_t i = 0; i < n; ++i) {
    double* sum = sums.data() + inverse[i] * channels;
    for (int64_t c = 0; c < channels; ++c) sum[c] += features[i * channels + c];
    ++counts[inverse[i]];
  }
  for (int64_t v = 0; v < voxels; ++v) {
    for (int64_t c = 0; c < channels; ++c) {
      means[v * channels + c] = float(sums[v * channels + c] / counts[v]);
    }
  }
}

}  // extern "C"
