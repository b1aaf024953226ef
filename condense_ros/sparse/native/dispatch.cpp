// Which table of kernels runs here: the best the processor has, or the one asked for.
#include <atomic>
#include <cstring>

#include "kernels.h"

namespace condense {
namespace {

bool supported(const Kernels* k) {
  if (!k) return false;
#if defined(__x86_64__)
  if (k == avx2_kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (k == avx512_kernels) return wide;
  if (k == avx512bf16_kernels) return wide && __builtin_cpu_supports("avx512bf16");
#endif
  return k == base_kernels;
}

const Kernels* const* tables() {
  static const Kernels* const all[] = {avx512bf16_kernels, avx512_kernels, avx2_kernels,
                                       base_kernels, nullptr};
  return all;
}

const Kernels* best() {
  for (int i = 0; i < 3; ++i) {
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
  for (int i = 0; i < 4; ++i) {
    const Kernels* k = tables()[i];
    if (supported(k) && !std::strcmp(k->name, name)) {
      chosen.store(k, std::memory_order_release);
      return 1;
    }
  }
  return 0;
}

int condense_abi() { return 2; }

}  // extern "C"
