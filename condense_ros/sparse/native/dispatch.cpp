// Which table of kernels runs here: the best the processor has, or the one asked for.
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "kernels.h"

namespace condense {
namespace {

#if defined(__x86_64__)
// Tiles must be in the processor, and the kernel must grant them to this process.
bool tiles_granted() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (!(d & (1u << 22)) || !(d & (1u << 24))) return false;
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
  return false;
#endif
}

// Few machines have tiles: before the kernels are used they must agree with the plain ones.
bool tiles_agree() {
  constexpr int ROWS = 37, C = 64, WIDTH = 48;
  std::vector<bf16> x(ROWS * C), w(C * WIDTH);
  uint32_t state = 1;
  auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    const float value = float(int32_t(state)) * 4.6e-10f;
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bf16(bits >> 16);
  };
  for (bf16& value : x) value = next();
  for (bf16& value : w) value = next();
  std::vector<float> one(ROWS * WIDTH, 0.0f), two(ROWS * WIDTH, 0.0f);
  const Pairs pairs{nullptr, nullptr, ROWS, 0};
  amx_kernels->rows_bf16(x.data(), C, pairs, w.data(), C, WIDTH / 16, one.data());
  avx512bf16_kernels->rows_bf16(x.data(), C, pairs, w.data(), C, WIDTH / 16, two.data());
  for (size_t i = 0; i < one.size(); ++i) {
    if (!(std::fabs(one[i] - two[i]) <= 1e-3f * (1.0f + std::fabs(two[i])))) return false;
  }
  return true;
}
#endif

bool supported(const Kernels* k) {
  if (!k) return false;
#if defined(__x86_64__)
  if (k == avx2_kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (k == avx512_kernels) return wide;
  const bool dots = wide && __builtin_cpu_supports("avx512bf16");
  if (k == avx512bf16_kernels) return dots;
  if (k == amx_kernels) {
    static const bool usable = dots && avx512bf16_kernels && tiles_granted() && tiles_agree();
    return usable;
  }
#endif
  return k == base_kernels || k == amx_emulated_kernels;
}

// best first; what follows the base kernels is used by name only
const Kernels* const* tables() {
  static const Kernels* const all[] = {amx_kernels,  avx512bf16_kernels, avx512_kernels,
                                       avx2_kernels, base_kernels,       amx_emulated_kernels};
  return all;
}
constexpr int TABLES = 6;

const Kernels* best() {
  for (int i = 0; i < TABLES; ++i) {
    if (supported(tables()[i])) return tables()[i];
  }
  return base_kernels;
}

std::atomic<const Kernels*> chosen{nullptr};

}  // namespace

const Kernels& active() {
  const Kernels* k = chosen.load(std::memory_order_acquire);
  if (!k) {
    k = best();
    chosen.store(k, std::memory_order_release);
  }
  return *k;
}

}  // namespace condense

extern "C" {

const char* condense_isa() { return condense::active().name; }

// Chooses a table by name ("" for the best); 0 where this machine cannot run it.
int condense_choose_isa(const char* name) {
  using namespace condense;
  if (!*name) {
    chosen.store(best(), std::memory_order_release);
    return 1;
  }
  for (int i = 0; i < TABLES; ++i) {
    const Kernels* k = tables()[i];
    if (supported(k) && !std::strcmp(k->name, name)) {
      chosen.store(k, std::memory_order_release);
      return 1;
    }
  }
  return 0;
}

int condense_abi() { return 3; }

}  // extern "C"
