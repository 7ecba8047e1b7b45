// Borrowed pictures: pointers into memory that somebody else owns and keeps alive during the call.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cyclegan_edge {

constexpr int kChannels = 3;
constexpr int kLargestSide = 1 << 24;  // Pillow keeps its box in float32: whole numbers up to here

// uint8, three interleaved channels. A pixel is packed; a row may be followed by anything (a crop of a larger picture).
struct ConstImage {
  const std::uint8_t* data;
  std::ptrdiff_t stride;  // bytes from one row to the next, not negative
  int width;
  int height;

  const std::uint8_t* row(int y) const { return data + y * stride; }
};

struct Size {
  int height;
  int width;
};

struct Crop {
  int top;
  int left;
  int height;
  int width;
};

}  // namespace cyclegan_edge
