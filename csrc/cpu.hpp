// Which kernels this CPU can run.
#pragma once

#include <string_view>
#include <vector>

#include "kernels.hpp"

namespace cyclegan_edge {

std::vector<const Kernels*> available_kernels();           // slowest first, never empty
const Kernels* find_kernels(std::string_view isa);         // null when this build or this CPU has none of that name

}  // namespace cyclegan_edge
