// AVX2 with VNNI at 256 bits: Intel's client and small CPUs since 2021, which have no AVX-512. A weight is three signed 8-bit
// digits (base 256, most significant last) for vpdpbusd, as in kernels_avx512.cpp: eight lanes of four products.
#include "avx.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr int kDigits = 3;
  static constexpr int kWords = kDigits;
  static constexpr int kPlane = kRows;  // as transposed

  // |weight| <= 1.125 * 2^22, so the last digit is at most 72.
  static void pack(const std::int32_t* four, std::uint32_t* words) {
    for (int digit = 0; digit < kDigits; ++digit) words[digit] = 0;
    for (int k = 0; k < 4; ++k) {
      std::int32_t rest = four[k];
      for (int digit = 0; digit < kDigits; ++digit) {
        const std::int32_t value = ((rest & 255) ^ 128) - 128;
        words[digit] |= static_cast<std::uint32_t>(value & 255) << (8 * k);
        rest = (rest - value) >> 8;
      }
    }
  }

  struct Weights {
    __m256i digit[kDigits];
  };

  static Weights load_weights(const std::uint32_t* words) {
    return {{broadcast(words[0]), broadcast(words[1]), broadcast(words[2])}};
  }

  static void keep(__m256i words, std::uint32_t* plane) { store(plane, words); }

  struct Sums {
    __m256i digit[kDigits] = {_mm256_set1_epi32(kHalf), _mm256_setzero_si256(), _mm256_setzero_si256()};

    void add(__m256i words, const Weights& weights) {
      for (int d = 0; d < kDigits; ++d) digit[d] = _mm256_dpbusd_avx_epi32(digit[d], words, weights.digit[d]);
    }
    void add_kept(const std::uint32_t* plane, const Weights& weights) { add(load(plane), weights); }
    __m256i pixels() const {
      const __m256i high = _mm256_add_epi32(_mm256_slli_epi32(digit[2], 8), digit[1]);
      return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 8), digit[0]), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kAvxVnniKernels = avx_kernels<Math>("avx_vnni");

}  // namespace cyclegan_edge
