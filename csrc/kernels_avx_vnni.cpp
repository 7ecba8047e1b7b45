// AVX2 with VNNI at 256 bits: Intel's client and small CPUs since 2021, which have no AVX-512. vpdpbusd multiplies four
// unsigned pixels by four signed digits (pack_digits): eight lanes of four products. No sum saturates, and the three
// digits' sums are put together modulo 2^32, so the result is the scalar kernel's 32-bit sum.
#include "avx.hpp"
#include "packing.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr Packing kPacking{0, kDigits, pack_digits};

  struct Weights {
    __m256i digit[kDigits];
  };

  static Weights load_weights(const std::uint32_t* words) {
    return {{broadcast(words[0]), broadcast(words[1]), broadcast(words[2])}};
  }

  static __m256i prepared(__m256i bytes) { return bytes; }

  struct Sums {
    __m256i digit[kDigits] = {_mm256_set1_epi32(kHalf), _mm256_setzero_si256(), _mm256_setzero_si256()};

    void start(const std::uint32_t*) {}
    void add(__m256i words, const Weights& weights) {
      const __m256i pixels = in_register(words);
      for (int d = 0; d < kDigits; ++d) digit[d] = _mm256_dpbusd_avx_epi32(digit[d], pixels, weights.digit[d]);
    }
    __m256i pixels() const {
      const __m256i high = _mm256_add_epi32(_mm256_slli_epi32(digit[2], 8), digit[1]);
      return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 8), digit[0]), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kAvxVnniKernels = avx_kernels<Math>("avx_vnni");

}  // namespace cyclegan_edge
