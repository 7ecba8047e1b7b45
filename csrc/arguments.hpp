// From Python objects to what resize.hpp takes. A wrong value is a ValueError, a wrong type a TypeError: a sentence each.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <string>
#include <vector>

#include "image.hpp"
#include "kernels.hpp"
#include "resize.hpp"

namespace cyclegan_edge {

// `name` is how the sentence calls the object: "image", "crops[2]".
ConstImage as_image(const pybind11::object& object, const std::string& name);
Size as_size(const pybind11::object& object, const std::string& name);
Crop as_crop(const pybind11::object& object, const std::string& name, Size inside);
const Kernels& as_kernels(const std::string& isa);

// Memory for one picture.
struct Output {
  pybind11::object owner;   // what the caller gets back
  pybind11::object keeper;  // keeps the memory alive and exported during the call
  void* data = nullptr;
  std::vector<std::ptrdiff_t> shape;
  std::vector<std::ptrdiff_t> strides;  // bytes
};

Output as_bytes(Size size);                                 // a new array, uint8 (height, width, 3)
Output as_floats(const pybind11::object& out, Size size);  // float32 (3, height, width): new, or `out` if it is not None

}  // namespace cyclegan_edge
