// x86-64 with AVX-512 F, BW, DQ and VL.
#include "kernels.h"

namespace condense {
#if defined(__AVX512F__) && defined(__AVX512BW__)
namespace {
#define ISA_NAME "avx512"
#define LANES 16
#define REGISTERS 32
#define MAX_VECTORS 6
#include "loops.h"
}  // namespace
const Kernels* const avx512_kernels = &kernels;
#else
const Kernels* const avx512_kernels = nullptr;
#endif
}  // namespace condense
