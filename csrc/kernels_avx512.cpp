// AVX-512 with VNNI. vpdpbusd multiplies four unsigned pixels by four signed digits (pack_digits): sixteen lanes of four
// products. No sum saturates, and the three digits' sums are put together modulo 2^32, so the result is the scalar kernel's
// 32-bit sum.
#include <immintrin.h>

#include "kernels.hpp"
#include "packing.hpp"

namespace cyclegan_edge {
namespace {

constexpr int kRows = 16;
constexpr int kBlock = kRows * 3;       // words of transposed pixels per group: sixteen rows of red, green, blue
constexpr int kQuadBytes = 4 * 3;       // four pixels
constexpr int kLoadBytes = 16;

// GCC would load a vector again for each of its uses, and loads are what these loops have least room for.
inline __m512i in_register(__m512i value) {
  asm("" : "+v"(value));
  return value;
}

struct Sums {
  __m512i digit[kDigits];
};

inline Sums start() {
  return {{_mm512_set1_epi32(kHalf), _mm512_setzero_si512(), _mm512_setzero_si512()}};
}

// Not clipped: -512 .. 511.
inline __m512i pixels(const Sums& sums) {
  const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums.digit[2], 8), sums.digit[1]);
  return _mm512_srai_epi32(_mm512_add_epi32(_mm512_slli_epi32(high, 8), sums.digit[0]), kWeightBits);
}

// The same for a few groups whose pixels and digits fit into registers: one sum takes the digits in turn, highest first.
template <int Groups>
inline __m512i few_pixels(const __m512i* pixel, const __m512i (*digit)[kDigits]) {
  __m512i sum = _mm512_set1_epi32(kHalf >> 16);
  for (int d = kDigits - 1; d >= 0; --d) {
    for (int group = 0; group < Groups; ++group) sum = _mm512_dpbusd_epi32(sum, pixel[group], digit[group][d]);
    sum = d ? _mm512_slli_epi32(sum, 8) : _mm512_srai_epi32(sum, kWeightBits);
  }
  return sum;
}

inline void load_digits(const std::uint32_t* weight, __m512i* digit) {
  for (int d = 0; d < kDigits; ++d) digit[d] = _mm512_set1_epi32(static_cast<int>(weight[d]));
}

constexpr int kFewGroups = 2;

template <typename Load>
inline __m512i four_lanes(Load load) {
  __m512i lanes = _mm512_castsi128_si512(load(0));
  lanes = _mm512_inserti32x4(lanes, load(4), 1);
  lanes = _mm512_inserti32x4(lanes, load(8), 2);
  return _mm512_inserti32x4(lanes, load(12), 3);
}

// Sixteen rows of four pixels, `Count` times -> word r of three vectors: row r's four reds, greens, blues.
// load(row, group) gives 16 bytes that start with the group's pixels. Quarter q of vector i holds row 4 q + i:
//     r0 g0 b0 r1  g1 b1 r2 g2  b2 r3 g3 b3  p p p p      as loaded (p: pixels that are not used)
//     r0 r1 r2 r3  g0 g1 g2 g3  b0 b1 b2 b3  .  .  .  .   after the shuffle: words R G B .
// and a 4 x 4 transposition of words inside each quarter (i = 0..3) brings the four rows' words together.
template <int Count, typename Load>
inline void transpose(Load load, std::uint32_t* block) {
  const __m512i by_channel = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
  __m512i row[Count][4];
  for (int i = 0; i < 4; ++i)
    for (int group = 0; group < Count; ++group)
      row[group][i] = _mm512_shuffle_epi8(four_lanes([&](int r) { return load(r + i, group); }), by_channel);
  for (int group = 0; group < Count; ++group, block += kBlock) {
    const __m512i rg01 = _mm512_unpacklo_epi32(row[group][0], row[group][1]);  // R0 R1 G0 G1
    const __m512i rg23 = _mm512_unpacklo_epi32(row[group][2], row[group][3]);
    const __m512i b01 = _mm512_unpackhi_epi32(row[group][0], row[group][1]);   // B0 B1 . .
    const __m512i b23 = _mm512_unpackhi_epi32(row[group][2], row[group][3]);
    _mm512_store_si512(block, _mm512_unpacklo_epi64(rg01, rg23));
    _mm512_store_si512(block + kRows, _mm512_unpackhi_epi64(rg01, rg23));
    _mm512_store_si512(block + 2 * kRows, _mm512_unpacklo_epi64(b01, b23));
  }
}

// Transposes groups from `begin` until `end` at least and returns where it stopped. Never reads past a row's last pixel.
inline int transpose_groups(const Strip& strip, int begin, int end, std::uint32_t* block) {
  constexpr int kAtOnce = 4;
  const std::ptrdiff_t row_bytes = static_cast<std::ptrdiff_t>(strip.width) * 3;
  std::ptrdiff_t at = static_cast<std::ptrdiff_t>(begin) * kQuadBytes;
  int group = begin;
  for (; group < end && at + (kAtOnce - 1) * kQuadBytes + kLoadBytes <= row_bytes; group += kAtOnce) {
    transpose<kAtOnce>([&](int r, int k) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(strip.rows[r] + at + k * kQuadBytes));
    }, block);
    at += kAtOnce * kQuadBytes;
    block += kAtOnce * kBlock;
  }
  for (; group < end; ++group, at += kQuadBytes, block += kBlock) {
    const std::ptrdiff_t left = row_bytes - at;
    const __mmask16 mask = static_cast<__mmask16>(left >= kLoadBytes ? 0xFFFF : (1 << left) - 1);
    transpose<1>([&](int r, int) { return _mm_maskz_loadu_epi8(mask, strip.rows[r] + at); }, block);
  }
  return group;
}

// One target column: sixteen rows, three channels. Groups is Columns::most_groups, or 0: not known to the compiler.
template <int Groups>
inline void column(const std::uint32_t* block, const std::uint32_t* weight, int groups, __m512i* channels) {
  if constexpr (Groups > 0 && Groups <= kFewGroups) {
    __m512i digit[Groups][kDigits];
    for (int group = 0; group < Groups; ++group) load_digits(weight + group * kDigits, digit[group]);
    for (int channel = 0; channel < 3; ++channel) {
      __m512i pixel[Groups];
      for (int group = 0; group < Groups; ++group)
        pixel[group] = _mm512_load_si512(block + group * kBlock + channel * kRows);
      channels[channel] = few_pixels<Groups>(pixel, digit);
    }
  } else {
    Sums sums[3] = {start(), start(), start()};
    const auto add_group = [&](int group) {
      __m512i digit[kDigits];
      load_digits(weight + group * kDigits, digit);
      for (int channel = 0; channel < 3; ++channel) {
        const __m512i pixel = in_register(_mm512_load_si512(block + group * kBlock + channel * kRows));
        for (int d = 0; d < kDigits; ++d)
          sums[channel].digit[d] = _mm512_dpbusd_epi32(sums[channel].digit[d], pixel, digit[d]);
      }
    };
#pragma GCC unroll 8
    for (int group = 0; group < (Groups ? Groups - 1 : groups); ++group) add_group(group);
    if (Groups && groups == Groups) add_group(Groups - 1);
    for (int channel = 0; channel < 3; ++channel) channels[channel] = pixels(sums[channel]);
  }
}

template <int Groups>
void columns(const Strip& strip) {
  const Columns& taps = strip.columns;
  const int first_group = taps.group_begin[strip.first];
  const std::ptrdiff_t group_size = 3 * strip.pitch;
  const int quads = (strip.count + 3) / 4;
  int made = first_group;
  for (int quad = 0; quad < quads; ++quad) {  // from left to right in the source
    const int to = 4 * (strip.flip ? quads - 1 - quad : quad);
    int x[4];
    for (int j = 0; j < 4; ++j) {  // columns past the end repeat the last
      const int position = to + j < strip.count ? to + j : strip.count - 1;
      x[j] = strip.first + (strip.flip ? strip.count - 1 - position : position);
    }
    const int rightmost = x[strip.flip ? 0 : 3];
    made = transpose_groups(strip, made, taps.group_begin[rightmost] + taps.group_count[rightmost],
                            strip.planes + static_cast<std::ptrdiff_t>(made - first_group) * kBlock);

    __m512i value[4][3];
    for (int j = 0; j < 4; ++j)
      column<Groups>(strip.planes + static_cast<std::ptrdiff_t>(taps.group_begin[x[j]] - first_group) * kBlock,
                     taps.packed + taps.packed_offset[x[j]], taps.group_count[x[j]], value[j]);
    for (int channel = 0; channel < 3; ++channel) {
      // Words (column j, rows 4 q .. 4 q + 3) in quarter q -> bytes: four rows of column 0, of column 1, of 2, of 3.
      const __m512i low = _mm512_packs_epi32(value[0][channel], value[1][channel]);
      const __m512i high = _mm512_packs_epi32(value[2][channel], value[3][channel]);
      const __m512i bytes = _mm512_packus_epi16(low, high);
      std::uint32_t* band = strip.band + channel * strip.pitch + to;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(band), _mm512_castsi512_si128(bytes));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(band + group_size), _mm512_extracti32x4_epi32(bytes, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(band + 2 * group_size), _mm512_extracti32x4_epi32(bytes, 2));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(band + 3 * group_size), _mm512_extracti32x4_epi32(bytes, 3));
    }
  }
}

void horizontal(const Strip& strip) {
  switch (strip.columns.most_groups) {
    case 1: return columns<1>(strip);
    case 2: return columns<2>(strip);
    case 3: return columns<3>(strip);
    case 4: return columns<4>(strip);
    case 5: return columns<5>(strip);
    case 6: return columns<6>(strip);
    case 7: return columns<7>(strip);
    case 8: return columns<8>(strip);
    default: return columns<0>(strip);
  }
}

inline __m512i clip(__m512i values) {
  return _mm512_min_epi32(_mm512_max_epi32(values, _mm512_setzero_si512()), _mm512_set1_epi32(255));
}

// Vectors * 16 columns of one channel, clipped to 0..255. Groups as above.
template <int Vectors, int Groups>
inline void rows(const Span& span, std::ptrdiff_t at, __m512i* values) {
  if constexpr (Groups > 0) {
    __m512i digit[Groups][kDigits];
    for (int group = 0; group < Groups; ++group) load_digits(span.weights + group * kDigits, digit[group]);
    for (int v = 0; v < Vectors; ++v) {
      __m512i pixel[Groups];
      for (int group = 0; group < Groups; ++group) pixel[group] = _mm512_load_si512(span.groups[group] + at + v * 16);
      values[v] = clip(few_pixels<Groups>(pixel, digit));
    }
  } else {
    Sums sums[Vectors];
    for (int v = 0; v < Vectors; ++v) sums[v] = start();
    for (int group = 0; group < span.group_count; ++group) {
      __m512i digit[kDigits];
      load_digits(span.weights + group * kDigits, digit);
      for (int v = 0; v < Vectors; ++v) {
        const __m512i pixel = _mm512_load_si512(span.groups[group] + at + v * 16);
        for (int d = 0; d < kDigits; ++d) sums[v].digit[d] = _mm512_dpbusd_epi32(sums[v].digit[d], pixel, digit[d]);
      }
    }
    for (int v = 0; v < Vectors; ++v) values[v] = clip(pixels(sums[v]));
  }
}

// value / 255 in two steps that round to the same float32 for each of the 256 values, then 2 x - 1, which rounds as
// (x - 0.5) / 0.5 does.
inline __m512 to_float(__m512i value) {
  constexpr double kExact = 1.0 / 255.0;
  constexpr float kHigh = static_cast<float>(kExact);
  constexpr float kLow = static_cast<float>(kExact - static_cast<double>(kHigh));
  const __m512 number = _mm512_cvtepi32_ps(value);
  const __m512 unit = _mm512_fmadd_ps(number, _mm512_set1_ps(kHigh), _mm512_mul_ps(number, _mm512_set1_ps(kLow)));
  return _mm512_fmsub_ps(unit, _mm512_set1_ps(2.0F), _mm512_set1_ps(1.0F));
}

template <int Groups>
void floats(const Span& span, float* const planes[3]) {
  for (int channel = 0; channel < 3; ++channel) {
    float* out = planes[channel];
    const std::ptrdiff_t plane = span.plane[channel];
    int x = 0;
    for (; x + 64 <= span.width; x += 64) {
      __m512i values[4];
      rows<4, Groups>(span, plane + x, values);
      for (int v = 0; v < 4; ++v) _mm512_storeu_ps(out + x + v * 16, to_float(values[v]));
    }
    for (; x < span.width; x += 16) {
      const int left = span.width - x;
      const __mmask16 mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
      __m512i values[1];
      rows<1, Groups>(span, plane + x, values);
      _mm512_mask_storeu_ps(out + x, mask, to_float(values[0]));
    }
  }
}

void vertical_floats(const Span& span, float* const planes[3]) {
  switch (span.group_count) {
    case 1: return floats<1>(span, planes);
    case 2: return floats<2>(span, planes);
    default: return floats<0>(span, planes);
  }
}

template <int Groups>
void bytes(const Span& span, std::uint8_t* row) {
  const __m512i drop_fourth =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  const __m512i join_quarters = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 3, 3, 3);
  for (int x = 0; x < span.width; x += 16) {
    const int left = span.width - x;
    const __mmask64 mask = (__mmask64{1} << (3 * (left >= 16 ? 16 : left))) - 1;
    __m512i red[1], green[1], blue[1];
    rows<1, Groups>(span, span.plane[0] + x, red);
    rows<1, Groups>(span, span.plane[1] + x, green);
    rows<1, Groups>(span, span.plane[2] + x, blue);
    // A word is now r g b 0; sixteen of them become 48 bytes.
    const __m512i words = _mm512_or_si512(_mm512_or_si512(red[0], _mm512_slli_epi32(green[0], 8)),
                                          _mm512_slli_epi32(blue[0], 16));
    const __m512i packed = _mm512_permutexvar_epi32(join_quarters, _mm512_shuffle_epi8(words, drop_fourth));
    _mm512_mask_storeu_epi8(row + static_cast<std::ptrdiff_t>(x) * 3, mask, packed);
  }
}

void vertical_bytes(const Span& span, std::uint8_t* row) {
  switch (span.group_count) {
    case 1: return bytes<1>(span, row);
    case 2: return bytes<2>(span, row);
    default: return bytes<0>(span, row);
  }
}

}  // namespace

const Kernels kAvx512Kernels{"avx512", kRows, kBlock, {0, kDigits, pack_digits}, horizontal, vertical_floats, vertical_bytes};

}  // namespace cyclegan_edge
