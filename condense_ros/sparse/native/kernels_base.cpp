// Any processor: SSE2 on x86-64, NEON on aarch64.
#include "kernels.h"

namespace condense {
namespace {
#define ISA_NAME "base"
#define LANES 4
#if defined(__aarch64__)
#define REGISTERS 32
#define MAX_VECTORS 6
#else
#define REGISTERS 16
#define MAX_VECTORS 3
#endif
#include "loops.h"
}  // namespace
const Kernels* const base_kernels = &kernels;
}  // namespace condense
