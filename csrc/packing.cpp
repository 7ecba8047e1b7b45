#include "packing.hpp"

#include "taps.hpp"

namespace cyclegan_edge {

void pack_digits(const std::int32_t* weights, int groups, std::uint32_t* packed) {
  for (int group = 0; group < groups; ++group, weights += kGroup, packed += kDigits) {
    for (int digit = 0; digit < kDigits; ++digit) packed[digit] = 0;
    for (int k = 0; k < kGroup; ++k) {
      std::int32_t rest = weights[k];
      for (int digit = 0; digit < kDigits; ++digit) {
        const std::int32_t value = ((rest & 255) ^ 128) - 128;
        packed[digit] |= static_cast<std::uint32_t>(value & 255) << (8 * k);
        rest = (rest - value) >> 8;
      }
    }
  }
}

void pack_pairs(const std::int32_t* weights, int groups, std::uint32_t* packed) {
  std::uint32_t start = kHalf;
  std::uint32_t* word = packed + kPairHead;
  for (int group = 0; group < groups; ++group, word += kPairWords) {
    for (int k = 0; k < kPairWords; ++k) word[k] = 0;
    for (int half = 0; half < 2; ++half, weights += 2) {
      const std::int32_t p = weights[0], q = weights[1];
      const std::int32_t near = (q + 128) >> 8;
      std::int32_t a = near + ((p - near + 128) & 255) - 128;
      if (q - 256 * a > 32767) a += 256;
      const std::int32_t parts[kPairWords] = {a, q - 256 * a, (p - a) >> 8};
      for (int k = 0; k < kPairWords; ++k) word[k] |= (static_cast<std::uint32_t>(parts[k]) & 0xFFFFU) << (16 * half);
      start += 128U * static_cast<std::uint32_t>(q);
    }
  }
  packed[0] = start;
}

}  // namespace cyclegan_edge
