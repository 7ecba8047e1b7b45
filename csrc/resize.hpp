// Resize, crop, flip and store in one run over the source, a few rows at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "image.hpp"
#include "kernels.hpp"

namespace cyclegan_edge {

struct Job {
  ConstImage source;
  Size size;          // of the whole resized picture
  Crop crop;          // the part of it that is wanted, inside `size`
  bool flip = false;  // left-right, after the crop
  bool bgr = false;   // the source is blue, green, red; the result is red, green, blue either way
};

// Preconditions of all: no empty side, no side above kLargestSide. Throws std::bad_alloc, nothing else.
void resize_to_bytes(const Job& job, std::uint8_t* target, const Kernels& kernels);   // (height, width, 3)
void resize_to_floats(const Job& job, float* target, const Kernels& kernels);         // (3, height, width), -1..1

}  // namespace cyclegan_edge
