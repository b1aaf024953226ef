// x86-64 with AVX-512 and its bfloat16 dot product.
#include "kernels.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace condense {
#if defined(__AVX512BF16__)
namespace {
#define ISA_NAME "avx512bf16"
#define LANES 16
#define REGISTERS 32
#define MAX_VECTORS 6
#include "dot_avx512bf16.h"
#include "loops.h"
}  // namespace
const Kernels* const avx512bf16_kernels = &kernels;
#else
const Kernels* const avx512bf16_kernels = nullptr;
#endif
}  // namespace condense
