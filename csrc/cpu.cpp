#include "cpu.hpp"

namespace cyclegan_edge {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels{&kScalarKernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    kernels.push_back(&kAvx512Kernels);
#endif
  return kernels;
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels* kernels : available_kernels())
    if (kernels->name == isa) return kernels;
  return nullptr;
}

}  // namespace cyclegan_edge
