#include "cpu.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace cyclegan_edge {

#if defined(__x86_64__)
namespace {

bool has_avx_vnni() {  // older compilers do not know its name
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1U << 4));
}

}  // namespace
#endif

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels{&kScalarKernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back(&kAvx2Kernels);
    if (has_avx_vnni()) kernels.push_back(&kAvxVnniKernels);
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    kernels.push_back(&kAvx512Kernels);
#elif defined(__aarch64__)
  kernels.push_back(&kNeonKernels);
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) kernels.push_back(&kNeonDotKernels);
#endif
  return kernels;
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels* kernels : available_kernels())
    if (kernels->name == isa) return kernels;
  return nullptr;
}

}  // namespace cyclegan_edge
