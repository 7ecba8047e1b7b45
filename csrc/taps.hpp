// Geometry and weights: which source pixels make one target pixel, and how much each counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cyclegan_edge {

constexpr int kWeightBits = 32 - 8 - 2;  // fractional bits of a weight: 8 for a pixel, 2 for overshoot and sign
constexpr int kHalf = 1 << (kWeightBits - 1);
constexpr int kGroup = 4;  // neighbours that the kernels multiply at once

// How a kernel wants the weights of one position: 32-bit words, `head` of them, then `words` for each group of four.
struct Packing {
  int head;
  int words;
  void (*pack)(const std::int32_t* weights, int groups, std::uint32_t* packed);
};

// The bicubic filter (a = -0.5) of Pillow 12, stretched by the reduction, for every position of one axis.
// Position x is the sum over i < count[x] of weight(x)[i] * source[begin[x] + i]. Neither begin nor end ever decreases.
struct Taps {
  int source = 0;
  int target = 0;
  std::vector<int> begin;             // target
  std::vector<int> count;             // target, at least 1
  std::vector<std::size_t> offset;    // target, where its weights start
  std::vector<std::int32_t> weights;  // kWeightBits fractional bits

  // The same weights for the kernels: groups of four aligned source positions, filled up with zeros, packed as the
  // kernels want it (Packing).
  int most_groups = 1;
  std::vector<int> group_begin;            // target, in groups
  std::vector<int> group_count;            // target
  std::vector<std::size_t> packed_offset;  // target
  std::vector<std::uint32_t> packed;

  int end(int x) const { return begin[index(x)] + count[index(x)]; }
  int group_end(int x) const { return group_begin[index(x)] + group_count[index(x)]; }
  const std::int32_t* weight(int x) const { return weights.data() + offset[index(x)]; }
  const std::uint32_t* packed_weight(int x) const { return packed.data() + packed_offset[index(x)]; }

  static constexpr std::size_t index(int x) { return static_cast<std::size_t>(x); }
};

enum class Groups {
  needed,   // as few as hold the weights
  similar,  // all inside the source, most_groups or one less but not below two: the kernels' loops are unrolled for that
};

// The last few results: a camera and most data sets repeat their sizes.
class TapsMemory {
 public:
  std::shared_ptr<const Taps> cubic(int source, int target, Groups groups, const Packing& packing);

 private:
  struct Entry {
    int source;
    int target;
    Groups groups;
    decltype(Packing::pack) pack;
    std::shared_ptr<const Taps> taps;
  };
  std::vector<Entry> entries_;  // the most recent first
};

}  // namespace cyclegan_edge
