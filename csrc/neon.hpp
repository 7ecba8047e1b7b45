// What both NEON kernels share: transposing strips, walking over columns, storing. The arithmetic comes as `Math`:
//     Math::kPacking                              the packed weights of a position
//     Math::prepared                              four neighbouring pixels of each word as the sums want them
//     Math::Sums::start(packed weights)
//     Math::Sums::add(eight words, four weights)  four pixels of each word times four weights, onto eight lanes
//     Math::Sums::finish(int32x4_t lanes[2])      shifted, not clipped: -512 .. 511
// Everything is in an unnamed namespace: each of the two files compiles its own copy with its own flags.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels.hpp"

namespace cyclegan_edge {
namespace {

constexpr int kRows = 8;
constexpr int kBlock = 3 * kRows;
constexpr int kQuadBytes = 4 * 3;  // four pixels
constexpr int kLoadBytes = 16;

inline uint32x4_t unzip_low(uint32x4_t a, uint32x4_t b) {  // low halves of both
  return vreinterpretq_u32_u64(vzip1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}
inline uint32x4_t unzip_high(uint32x4_t a, uint32x4_t b) {
  return vreinterpretq_u32_u64(vzip2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b)));
}

// Four rows of four pixels -> word r of three vectors: row r's four reds, greens, blues.
// at(row) points to 16 bytes that start with the pixels:
//     r0 g0 b0 r1  g1 b1 r2 g2  b2 r3 g3 b3  p p p p      as loaded (p: pixels that are not used)
//     r0 r1 r2 r3  g0 g1 g2 g3  b0 b1 b2 b3  0  0  0  0   after the table: words R G B 0
// then a 4 x 4 transposition of words brings the four rows' words together.
template <typename Math, typename At>
inline void transpose(At at, std::uint32_t* block) {
  static const std::uint8_t kByChannel[16] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 255, 255, 255, 255};
  const uint8x16_t by_channel = vld1q_u8(kByChannel);
  uint32x4_t row[4];
  for (int i = 0; i < 4; ++i) row[i] = vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(at(i)), by_channel));
  const uint32x4_t rg01 = vzip1q_u32(row[0], row[1]);  // R0 R1 G0 G1
  const uint32x4_t rg23 = vzip1q_u32(row[2], row[3]);
  const uint32x4_t b01 = vzip2q_u32(row[0], row[1]);   // B0 B1 0 0
  const uint32x4_t b23 = vzip2q_u32(row[2], row[3]);
  vst1q_u32(block, Math::prepared(unzip_low(rg01, rg23)));
  vst1q_u32(block + kRows, Math::prepared(unzip_high(rg01, rg23)));
  vst1q_u32(block + 2 * kRows, Math::prepared(unzip_low(b01, b23)));
}

// Never reads past the last pixel of a row.
template <typename Math>
inline void transpose_group(const Strip& strip, int group, std::uint32_t* block) {
  const std::ptrdiff_t from = static_cast<std::ptrdiff_t>(group) * kQuadBytes;
  const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(strip.width) * 3 - from;
  for (int top = 0; top < kRows; top += 4, block += 4) {
    if (left >= kLoadBytes) {
      transpose<Math>([&](int r) { return strip.rows[top + r] + from; }, block);
    } else {
      std::uint8_t end[4][kLoadBytes] = {};
      for (int r = 0; r < 4; ++r) std::memcpy(end[r], strip.rows[top + r] + from, static_cast<std::size_t>(left));
      transpose<Math>([&](int r) { return end[r]; }, block);
    }
  }
}

// One target column: eight rows, three channels.
template <typename Math>
inline void column(const std::uint32_t* block, const std::uint32_t* weight, int groups, int32x4_t channels[3][2]) {
  typename Math::Sums sums[3];
  for (int channel = 0; channel < 3; ++channel) sums[channel].start(weight);
  weight += Math::kPacking.head;
  for (int group = 0; group < groups; ++group, block += kBlock, weight += Math::kPacking.words)
    for (int channel = 0; channel < 3; ++channel) sums[channel].add(block + channel * kRows, weight);
  for (int channel = 0; channel < 3; ++channel) sums[channel].finish(channels[channel]);
}

template <typename Math>
void horizontal(const Strip& strip) {
  const Columns& taps = strip.columns;
  const int first_group = taps.group_begin[strip.first];
  const std::ptrdiff_t group_size = 3 * strip.pitch;
  const int quads = (strip.count + 3) / 4;
  const auto block = [&](int group) { return strip.planes + static_cast<std::ptrdiff_t>(group - first_group) * kBlock; };
  int made = first_group;
  for (int quad = 0; quad < quads; ++quad) {  // from left to right in the source
    const int to = 4 * (strip.flip ? quads - 1 - quad : quad);
    int x[4];
    for (int j = 0; j < 4; ++j) {  // columns past the end repeat the last
      const int position = to + j < strip.count ? to + j : strip.count - 1;
      x[j] = strip.first + (strip.flip ? strip.count - 1 - position : position);
    }
    const int rightmost = x[strip.flip ? 0 : 3];
    for (const int end = taps.group_begin[rightmost] + taps.group_count[rightmost]; made < end; ++made)
      transpose_group<Math>(strip, made, block(made));

    int32x4_t value[4][3][2];
    for (int j = 0; j < 4; ++j)
      column<Math>(block(taps.group_begin[x[j]]), taps.packed + taps.packed_offset[x[j]], taps.group_count[x[j]], value[j]);
    for (int channel = 0; channel < 3; ++channel)
      for (int half = 0; half < 2; ++half) {
        // Rows 4 half .. 4 half + 3 of four columns -> bytes: four rows of column 0, of column 1, of 2, of 3.
        const int16x8_t low = vcombine_s16(vqmovn_s32(value[0][channel][half]), vqmovn_s32(value[1][channel][half]));
        const int16x8_t high = vcombine_s16(vqmovn_s32(value[2][channel][half]), vqmovn_s32(value[3][channel][half]));
        const uint8x16_t bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
        vst1q_u32(strip.band + half * group_size + channel * strip.pitch + to, Math::prepared(vreinterpretq_u32_u8(bytes)));
      }
  }
}

// Eight columns of one channel, not clipped.
template <typename Math>
inline void rows(const Span& span, std::ptrdiff_t at, int32x4_t values[2]) {
  typename Math::Sums sums;
  sums.start(span.weights);
  const std::uint32_t* weight = span.weights + Math::kPacking.head;
  for (int group = 0; group < span.group_count; ++group, weight += Math::kPacking.words)
    sums.add(span.groups[group] + at, weight);
  sums.finish(values);
}

inline uint8x8_t to_bytes(const int32x4_t values[2]) {
  return vqmovun_s16(vcombine_s16(vqmovn_s32(values[0]), vqmovn_s32(values[1])));
}

// value / 255 in two steps that round to the same float32 for each of the 256 values, then 2 x - 1, which rounds as
// (x - 0.5) / 0.5 does.
inline float32x4_t to_float(int32x4_t value) {
  constexpr double kExact = 1.0 / 255.0;
  constexpr float kHigh = static_cast<float>(kExact);
  constexpr float kLow = static_cast<float>(kExact - static_cast<double>(kHigh));
  const float32x4_t number = vcvtq_f32_s32(vminq_s32(vmaxq_s32(value, vdupq_n_s32(0)), vdupq_n_s32(255)));
  const float32x4_t unit = vfmaq_f32(vmulq_f32(number, vdupq_n_f32(kLow)), number, vdupq_n_f32(kHigh));
  return vfmaq_f32(vdupq_n_f32(-1.0F), unit, vdupq_n_f32(2.0F));
}

template <typename Math>
void vertical_floats(const Span& span, float* const planes[3]) {
  for (int channel = 0; channel < 3; ++channel) {
    for (int x = 0; x < span.width; x += 8) {
      int32x4_t values[2];
      rows<Math>(span, span.plane[channel] + x, values);
      float* out = planes[channel] + x;
      const int left = span.width - x;
      float end[8];
      float* to = left >= 8 ? out : end;
      vst1q_f32(to, to_float(values[0]));
      vst1q_f32(to + 4, to_float(values[1]));
      if (left < 8) std::memcpy(out, end, static_cast<std::size_t>(left) * sizeof(float));
    }
  }
}

template <typename Math>
void vertical_bytes(const Span& span, std::uint8_t* row) {
  for (int x = 0; x < span.width; x += 8, row += 24) {
    uint8x8x3_t pixels;
    for (int channel = 0; channel < 3; ++channel) {
      int32x4_t values[2];
      rows<Math>(span, span.plane[channel] + x, values);
      pixels.val[channel] = to_bytes(values);
    }
    const int left = span.width - x;
    if (left >= 8) {
      vst3_u8(row, pixels);
    } else {
      std::uint8_t end[24];
      vst3_u8(end, pixels);
      std::memcpy(row, end, static_cast<std::size_t>(left) * 3);
    }
  }
}

template <typename Math>
constexpr Kernels neon_kernels(const char* name) {
  return {name, kRows, kBlock, Math::kPacking, horizontal<Math>, vertical_floats<Math>, vertical_bytes<Math>};
}

}  // namespace
}  // namespace cyclegan_edge
