// x86-64 with AVX2 and FMA.
#include "kernels.h"

namespace condense {
#if defined(__AVX2__) && defined(__FMA__)
namespace {
#define ISA_NAME "avx2"
#define LANES 8
#define REGISTERS 16
#define MAX_VECTORS 3
#include "loops.h"
}  // namespace
const Kernels* const avx2_kernels = &kernels;
#else
const Kernels* const avx2_kernels = nullptr;
#endif
}  // namespace condense
