// The definition. Everything another kernel computes must equal this bit for bit.
#include <algorithm>
#include <array>

#include "image.hpp"
#include "kernels.hpp"

namespace cyclegan_edge {
namespace {

// torchvision's ToTensor, then Normalize(0.5, 0.5): each step rounds to float32.
constexpr std::array<float, 256> kToFloat = [] {
  std::array<float, 256> table{};
  for (int value = 0; value < 256; ++value)
    table[static_cast<std::size_t>(value)] = (static_cast<float>(value) / 255.0F - 0.5F) / 0.5F;
  return table;
}();

std::uint8_t round_and_clip(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

void pack(const std::int32_t* weights, int groups, std::uint32_t* packed) {
  for (int k = 0; k < groups * kGroup; ++k) packed[k] = static_cast<std::uint32_t>(weights[k]);
}

std::uint8_t column_sum(const std::uint8_t* row, const std::int32_t* weight, int begin, int count, int channel) {
  const std::uint8_t* pixel = row + static_cast<std::ptrdiff_t>(begin) * kChannels + channel;
  std::int32_t sum = kHalf;
  for (int k = 0; k < count; ++k) sum += pixel[k * kChannels] * weight[k];
  return round_and_clip(sum);
}

void horizontal(const Strip& strip) {
  for (int i = 0; i < strip.count; ++i) {
    const int x = strip.first + i;
    const int begin = strip.columns.begin[x];
    const int count = strip.columns.count[x];
    const std::int32_t* weight = strip.columns.weights + strip.columns.offset[x];
    const int to = strip.flip ? strip.count - 1 - i : i;
    for (int channel = 0; channel < kChannels; ++channel) {
      std::uint32_t word = 0;
      for (int y = 0; y < kGroup; ++y) {
        const std::uint32_t value = column_sum(strip.rows[y], weight, begin, count, channel);
        word |= value << (8 * y);
      }
      strip.band[channel * strip.pitch + to] = word;
    }
  }
}

std::uint8_t row_sum(const Span& span, int channel, int x) {
  std::int32_t sum = kHalf;
  const std::uint32_t* weight = span.weights;
  for (int group = 0; group < span.group_count; ++group, weight += kGroup) {
    const std::uint32_t word = span.groups[group][span.plane[channel] + x];
    for (int y = 0; y < kGroup; ++y)
      sum += static_cast<std::int32_t>((word >> (8 * y)) & 255U) * static_cast<std::int32_t>(weight[y]);
  }
  return round_and_clip(sum);
}

void vertical_floats(const Span& span, float* const planes[3]) {
  for (int channel = 0; channel < kChannels; ++channel)
    for (int x = 0; x < span.width; ++x) planes[channel][x] = kToFloat[row_sum(span, channel, x)];
}

void vertical_bytes(const Span& span, std::uint8_t* row) {
  for (int x = 0; x < span.width; ++x)
    for (int channel = 0; channel < kChannels; ++channel) *row++ = row_sum(span, channel, x);
}

}  // namespace

const Kernels kScalarKernels{"scalar", kGroup, 0, {0, kGroup, pack}, horizontal, vertical_floats, vertical_bytes};

}  // namespace cyclegan_edge
