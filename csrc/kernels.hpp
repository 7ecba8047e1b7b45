// The inner loops, once per instruction set; kernels_scalar.cpp is the definition that the others equal bit for bit.
//
// A kernel file sees plain pointers and its own static functions only. An inline function of a header would be compiled
// for the newer CPU too, and the linker could keep that copy for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

#include "taps.hpp"

namespace cyclegan_edge {

constexpr int kLargestStrip = 16;  // rows

// Taps of the target columns, all arrays of one entry per column but the weights themselves.
struct Columns {
  const int* begin;
  const int* count;
  const std::size_t* offset;
  const std::int32_t* weights;
  int most_groups;
  const int* group_begin;
  const int* group_count;  // Groups::similar
  const std::size_t* packed_offset;
  const std::uint32_t* packed;
};

// Between the passes, four vertically neighbouring bytes share one word: word x of plane c of a group holds column x of
// its four rows, the upper row in the lowest byte. Sixteen words can then meet four rows' weights at once.
// A plane is `pitch` words long, a group is three planes.
struct Strip {
  const std::uint8_t* rows[kLargestStrip];  // Kernels::rows of them
  int width;                                // pixels in each of these rows
  std::ptrdiff_t next;                      // bytes from a row to its fellow in the next strip, to be fetched early
  Columns columns;
  int first;              // the target columns that are wanted: first, first + 1, ... first + count - 1
  int count;
  bool flip;              // write them from right to left
  std::uint32_t* planes;  // scratch: Kernels::block words for each group of source columns, on a cache line
  std::uint32_t* band;    // out: Kernels::rows / 4 groups, on a cache line; a plane's words past count may be overwritten
  std::ptrdiff_t pitch;   // words, a multiple of 16, at least count
};

// One target row from the groups that hold its source rows.
struct Span {
  const std::uint32_t* const* groups;
  const std::uint32_t* weights;  // packed
  int group_count;
  std::ptrdiff_t plane[3];  // words from a group's start to red, green, blue
  int width;
};

struct Kernels {
  const char* name;
  int rows;   // source rows in a strip, a multiple of 4
  int block;  // words of scratch for each group of source columns
  Packing packing;
  void (*horizontal)(const Strip& strip);
  void (*vertical_floats)(const Span& span, float* const planes[3]);  // -1..1, a row of each plane
  void (*vertical_bytes)(const Span& span, std::uint8_t* row);        // interleaved
};

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;     // x86-64
extern const Kernels kAvxVnniKernels;  // x86-64
extern const Kernels kAvx512Kernels;   // x86-64
extern const Kernels kNeonKernels;     // aarch64
extern const Kernels kNeonDotKernels;  // aarch64

}  // namespace cyclegan_edge
