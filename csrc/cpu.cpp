#include "cpu.hpp"

namespace cyclegan_edge {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> kernels{&kScalarKernels};
  return kernels;
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels* kernels : available_kernels())
    if (kernels->name == isa) return kernels;
  return nullptr;
}

}  // namespace cyclegan_edge
