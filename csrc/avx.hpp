// What both 256-bit kernels share: transposing strips, walking over columns, storing. The arithmetic comes as `Math`:
//     Math::kPacking                 the packed weights of a position
//     Math::prepared                 four neighbouring pixels of each word as the sums want them
//     Math::load_weights             a group's weights in registers
//     Math::Sums::start, add         four pixels of each word times four weights, onto eight lanes
//     Math::Sums::pixels             shifted, not clipped: -512 .. 511
// Everything is in an unnamed namespace: each of the two files compiles its own copy with its own flags.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "kernels.hpp"

namespace cyclegan_edge {
namespace {

constexpr int kRows = 8;
constexpr int kBlock = 3 * kRows;  // words of transposed pixels per group: eight rows of red, green, blue
constexpr int kQuadBytes = 4 * 3;  // four pixels
constexpr int kLoadBytes = 16;
constexpr int kAhead = 64;         // groups transposed in one go, if there are so many

inline __m256i load(const std::uint32_t* words) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
}

// GCC would load a vector again for each of its uses, and loads are what these loops have least room for.
inline __m256i in_register(__m256i value) {
  asm("" : "+x"(value));
  return value;
}

inline __m256i broadcast(std::uint32_t word) { return _mm256_set1_epi32(static_cast<int>(word)); }
inline void store(std::uint32_t* words, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), value);
}
inline void store(std::uint32_t* words, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), value);
}

// Eight rows of four pixels -> word r of three vectors: row r's four reds, greens, blues.
// at(row) points to 16 bytes that start with the pixels. Half h of vector i holds row 4 h + i:
//     r0 g0 b0 r1  g1 b1 r2 g2  b2 r3 g3 b3  p p p p      as loaded (p: pixels that are not used)
//     r0 r1 r2 r3  g0 g1 g2 g3  b0 b1 b2 b3  .  .  .  .   after the shuffle: words R G B .
// and a 4 x 4 transposition of words inside each half (i = 0..3) brings the four rows' words together.
template <typename Math, typename At>
inline void transpose(At at, std::uint32_t* block) {
  const __m256i by_channel = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
  __m256i row[4];
  for (int i = 0; i < 4; ++i) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(i)));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(i + 4)));
    row[i] = _mm256_shuffle_epi8(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1), by_channel);
  }
  const __m256i rg01 = _mm256_unpacklo_epi32(row[0], row[1]);  // R0 R1 G0 G1
  const __m256i rg23 = _mm256_unpacklo_epi32(row[2], row[3]);
  const __m256i b01 = _mm256_unpackhi_epi32(row[0], row[1]);   // B0 B1 . .
  const __m256i b23 = _mm256_unpackhi_epi32(row[2], row[3]);
  const __m256i channels[3] = {_mm256_unpacklo_epi64(rg01, rg23), _mm256_unpackhi_epi64(rg01, rg23),
                               _mm256_unpacklo_epi64(b01, b23)};
  for (int channel = 0; channel < 3; ++channel) store(block + channel * kRows, Math::prepared(channels[channel]));
}

// Transposes groups from `begin` until `end` at least and returns where it stopped. Never reads past a row's last pixel.
template <typename Math>
int transpose_groups(const Strip& strip, int begin, int end, std::uint32_t* block) {
  constexpr int kAtOnce = 4;
  const std::ptrdiff_t row_bytes = static_cast<std::ptrdiff_t>(strip.width) * 3;
  std::ptrdiff_t from = static_cast<std::ptrdiff_t>(begin) * kQuadBytes;
  const std::uint8_t* rows[kRows];
  for (int r = 0; r < kRows; ++r) rows[r] = strip.rows[r] + from;
  int group = begin;
  for (; group < end && from + (kAtOnce - 1) * kQuadBytes + kLoadBytes <= row_bytes; group += kAtOnce) {
    for (int k = 0; k < kAtOnce; ++k)
      transpose<Math>([&](int r) { return rows[r] + k * kQuadBytes; }, block + k * kBlock);
    for (int r = 0; r < kRows; ++r) {
      _mm_prefetch(reinterpret_cast<const char*>(rows[r]) + strip.next, _MM_HINT_T1);
      rows[r] += kAtOnce * kQuadBytes;
    }
    from += kAtOnce * kQuadBytes;
    block += kAtOnce * kBlock;
  }
  for (; group < end && from + kLoadBytes <= row_bytes; ++group, from += kQuadBytes, block += kBlock)
    transpose<Math>([&](int r) { return strip.rows[r] + from; }, block);
  for (; group < end; ++group, from += kQuadBytes, block += kBlock) {
    std::uint8_t last[kRows][kLoadBytes] = {};
    for (int r = 0; r < kRows; ++r) std::memcpy(last[r], strip.rows[r] + from, static_cast<std::size_t>(row_bytes - from));
    transpose<Math>([&](int r) { return last[r]; }, block);
  }
  return group;
}

// One target column: eight rows, three channels, from `groups` groups that lie behind each other at `block`.
// Groups is Columns::most_groups, or 0: not known to the compiler. The columns' counts come in a pattern that branch
// prediction learns; below three they are all the same.
template <typename Math, int Groups>
inline void column(const std::uint32_t* block, const std::uint32_t* weight, int groups, __m256i* channels) {
  typename Math::Sums sums[3];
  for (int channel = 0; channel < 3; ++channel) sums[channel].start(weight);
  weight += Math::kPacking.head;
  const auto add_group = [&](int group) {
    const auto weights = Math::load_weights(weight + group * Math::kPacking.words);
    for (int channel = 0; channel < 3; ++channel)
      sums[channel].add(load(block + group * kBlock + channel * kRows), weights);
  };
  constexpr int kCertain = Groups > 2 ? Groups - 1 : Groups;
#pragma GCC unroll 8
  for (int group = 0; group < (Groups ? kCertain : groups); ++group) add_group(group);
  if (Groups > kCertain && groups == Groups) add_group(Groups - 1);
  for (int channel = 0; channel < 3; ++channel) channels[channel] = sums[channel].pixels();
}

template <typename Math, int Groups>
void columns(const Strip& strip) {
  const Columns& taps = strip.columns;
  const std::ptrdiff_t group_size = 3 * strip.pitch;
  const int quads = (strip.count + 3) / 4;
  const int all_groups = (strip.width + kGroup - 1) / kGroup;
  const int first_group = taps.group_begin[strip.first];
  const auto block = [&](int group) { return strip.planes + static_cast<std::ptrdiff_t>(group - first_group) * kBlock; };
  int made = first_group;
  for (int quad = 0; quad < quads; ++quad) {  // from left to right in the source
    const int to = 4 * (strip.flip ? quads - 1 - quad : quad);
    const auto source_column = [&](int j) {  // of target column to + j; those past the end repeat the last
      const int position = to + j < strip.count ? to + j : strip.count - 1;
      return strip.first + (strip.flip ? strip.count - 1 - position : position);
    };
    const int rightmost = source_column(strip.flip ? 0 : 3);
    const int end = taps.group_begin[rightmost] + taps.group_count[rightmost];
    if (made < end) {
      const int ahead = made + kAhead < all_groups ? made + kAhead : all_groups;
      made = transpose_groups<Math>(strip, made, ahead > end ? ahead : end, block(made));
    }

    const auto make = [&](int j, __m256i* channels) {
      const int x = source_column(j);
      column<Math, Groups>(block(taps.group_begin[x]), taps.packed + taps.packed_offset[x], taps.group_count[x], channels);
    };
    __m256i first[3], second[3], low[3];
    make(0, first);
    make(1, second);
    for (int channel = 0; channel < 3; ++channel) low[channel] = _mm256_packs_epi32(first[channel], second[channel]);
    make(2, first);
    make(3, second);
    for (int channel = 0; channel < 3; ++channel) {
      // Words (column j, rows 4 h .. 4 h + 3) in half h -> bytes: four rows of column 0, of column 1, of 2, of 3.
      const __m256i high = _mm256_packs_epi32(first[channel], second[channel]);
      const __m256i bytes = Math::prepared(_mm256_packus_epi16(low[channel], high));
      std::uint32_t* band = strip.band + channel * strip.pitch + to;
      store(band, _mm256_castsi256_si128(bytes));
      store(band + group_size, _mm256_extracti128_si256(bytes, 1));
    }
  }
}

template <typename Math>
void horizontal(const Strip& strip) {
  switch (strip.columns.most_groups) {
    case 1: return columns<Math, 1>(strip);
    case 2: return columns<Math, 2>(strip);
    case 3: return columns<Math, 3>(strip);
    case 4: return columns<Math, 4>(strip);
    case 5: return columns<Math, 5>(strip);
    case 6: return columns<Math, 6>(strip);
    case 7: return columns<Math, 7>(strip);
    case 8: return columns<Math, 8>(strip);
    default: return columns<Math, 0>(strip);
  }
}

// Eight columns at each of several places in the groups, clipped to 0..255. A plane's words past the last column exist up
// to its pitch, and what becomes of them is not stored.
template <typename Math, int Places>
inline void rows(const Span& span, const std::ptrdiff_t (&at)[Places], __m256i (&values)[Places]) {
  typename Math::Sums sums[Places];
  for (int v = 0; v < Places; ++v) sums[v].start(span.weights);
  const std::uint32_t* weight = span.weights + Math::kPacking.head;
  for (int group = 0; group < span.group_count; ++group, weight += Math::kPacking.words) {
    const auto weights = Math::load_weights(weight);
    for (int v = 0; v < Places; ++v) sums[v].add(load(span.groups[group] + at[v]), weights);
  }
  for (int v = 0; v < Places; ++v)
    values[v] = _mm256_min_epi32(_mm256_max_epi32(sums[v].pixels(), _mm256_setzero_si256()), _mm256_set1_epi32(255));
}

// value / 255 in two steps that round to the same float32 for each of the 256 values, then 2 x - 1, which rounds as
// (x - 0.5) / 0.5 does.
inline __m256 to_float(__m256i value) {
  constexpr double kExact = 1.0 / 255.0;
  constexpr float kHigh = static_cast<float>(kExact);
  constexpr float kLow = static_cast<float>(kExact - static_cast<double>(kHigh));
  const __m256 number = _mm256_cvtepi32_ps(value);
  const __m256 unit = _mm256_fmadd_ps(number, _mm256_set1_ps(kHigh), _mm256_mul_ps(number, _mm256_set1_ps(kLow)));
  return _mm256_fmsub_ps(unit, _mm256_set1_ps(2.0F), _mm256_set1_ps(1.0F));
}

template <typename Math>
void vertical_floats(const Span& span, float* const planes[3]) {
  for (int channel = 0; channel < 3; ++channel) {
    float* out = planes[channel];
    const std::ptrdiff_t plane = span.plane[channel];
    int x = 0;
    for (; x + 32 <= span.width; x += 32) {
      __m256i values[4];
      rows<Math, 4>(span, {plane + x, plane + x + 8, plane + x + 16, plane + x + 24}, values);
      for (int v = 0; v < 4; ++v) _mm256_storeu_ps(out + x + v * 8, to_float(values[v]));
    }
    for (; x < span.width; x += 8) {
      const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      __m256i values[1];
      rows<Math, 1>(span, {plane + x}, values);
      _mm256_maskstore_ps(out + x, _mm256_cmpgt_epi32(_mm256_set1_epi32(span.width - x), lane), to_float(values[0]));
    }
  }
}

template <typename Math>
void vertical_bytes(const Span& span, std::uint8_t* row) {
  const __m256i drop_fourth =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m256i join_halves = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 3);
  for (int x = 0; x < span.width; x += 8, row += 24) {
    __m256i values[3];  // red, green, blue
    rows<Math, 3>(span, {span.plane[0] + x, span.plane[1] + x, span.plane[2] + x}, values);
    // A word is now r g b 0; eight of them become 24 bytes.
    const __m256i words = _mm256_or_si256(_mm256_or_si256(values[0], _mm256_slli_epi32(values[1], 8)),
                                          _mm256_slli_epi32(values[2], 16));
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(words, drop_fourth), join_halves);
    const int left = span.width - x;
    if (left >= 8) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(row), _mm256_castsi256_si128(packed));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(row + 16), _mm256_extracti128_si256(packed, 1));
    } else {
      std::uint8_t end[32];
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(end), packed);
      std::memcpy(row, end, static_cast<std::size_t>(left) * 3);
    }
  }
}

template <typename Math>
constexpr Kernels avx_kernels(const char* name) {
  return {name,
          kRows,
          kBlock,
          Math::kPacking,
          horizontal<Math>,
          vertical_floats<Math>,
          vertical_bytes<Math>};
}

}  // namespace
}  // namespace cyclegan_edge
