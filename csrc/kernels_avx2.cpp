// AVX2 (and FMA). A weight is two signed 16-bit halves, and vpmaddwd multiplies pairs of pixels by pairs of halves: eight
// lanes of two products. The two sums are put together modulo 2^32, so the result is the scalar kernel's 32-bit sum.
#include "avx.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr int kWords = 4;           // high halves of weights 0 2, of 1 3; low halves of 0 2, of 1 3
  static constexpr int kPlane = 2 * kRows;   // eight rows' pixels 0 2, then 1 3, 16 bits each

  static std::uint32_t pair(std::int32_t first, std::int32_t second) {
    return (static_cast<std::uint32_t>(first) & 0xFFFFU) | static_cast<std::uint32_t>(second) << 16;
  }

  static void pack(const std::int32_t* four, std::uint32_t* words) {
    std::int32_t high[4];
    for (int k = 0; k < 4; ++k) high[k] = (four[k] + 0x8000) >> 16;  // the low half is what is left: -2^15 .. 2^15 - 1
    words[0] = pair(high[0], high[2]);
    words[1] = pair(high[1], high[3]);
    words[2] = pair(four[0], four[2]);
    words[3] = pair(four[1], four[3]);
  }

  struct Weights {
    __m256i high_even, high_odd, low_even, low_odd;
  };

  static Weights load_weights(const std::uint32_t* words) {
    return {broadcast(words[0]), broadcast(words[1]), broadcast(words[2]), broadcast(words[3])};
  }

  static __m256i even_pixels(__m256i words) { return _mm256_and_si256(words, _mm256_set1_epi32(0x00FF00FF)); }
  static __m256i odd_pixels(__m256i words) { return _mm256_srli_epi16(words, 8); }

  static void keep(__m256i words, std::uint32_t* plane) {
    store(plane, even_pixels(words));
    store(plane + kRows, odd_pixels(words));
  }

  struct Sums {
    __m256i high = _mm256_setzero_si256();
    __m256i low = _mm256_set1_epi32(kHalf);

    void add_pairs(__m256i even, __m256i odd, const Weights& weights) {
      high = _mm256_add_epi32(high, _mm256_madd_epi16(even, weights.high_even));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(even, weights.low_even));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(odd, weights.high_odd));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(odd, weights.low_odd));
    }
    void add(__m256i words, const Weights& weights) { add_pairs(even_pixels(words), odd_pixels(words), weights); }
    void add_kept(const std::uint32_t* plane, const Weights& weights) {
      add_pairs(load(plane), load(plane + kRows), weights);
    }
    __m256i pixels() const {
      return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 16), low), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kAvx2Kernels = avx_kernels<Math>("avx2");

}  // namespace cyclegan_edge
