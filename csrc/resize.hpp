// Resize, crop, flip and store in one run over the source, a few rows at a time.
#pragma once

#include <cstddef>

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

enum class Format {
  bytes,   // uint8, three interleaved channels
  floats,  // float32 from -1 to 1, three planes
};

// Where the crop goes. A row is packed, the steps between rows and planes are in bytes and not negative.
struct Target {
  void* data;
  Format format;
  std::ptrdiff_t row;
  std::ptrdiff_t plane = 0;  // floats only
};

// Preconditions: no empty side, no side above kLargestSide, the target does not overlap the source.
// Throws std::bad_alloc, nothing else. Several threads may call it at once.
void resize(const Job& job, const Target& target, const Kernels& kernels);

}  // namespace cyclegan_edge
