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
int as_threads(int threads);  // 0: all this process may use
Format as_format(const std::string& layout, const std::string& dtype);
const Kernels& as_kernels(const std::string& isa);

// A new array, or the caller's `out`, of one picture or of a batch.
struct Output {
  pybind11::object owner;  // what the caller gets back
  pybind11::object keeper;  // keeps the memory alive and exported during the call
  void* data = nullptr;
  std::vector<std::ptrdiff_t> shape;
  std::vector<std::ptrdiff_t> strides;  // bytes

  Target target(Format format, std::size_t picture, bool batch) const;
};

// `shape` is (3, height, width) or (height, width, 3), with the number of pictures in front for a batch.
// `out` is None, an object with the buffer protocol, or a tensor with DLPack in memory the CPU can write.
Output as_output(const pybind11::object& out, Format format, const std::vector<std::ptrdiff_t>& shape);

}  // namespace cyclegan_edge
