// AVX2 (and FMA). vpmaddwd multiplies sixteen pairs of 16-bit numbers and adds neighbours: 32 bits of weights for each lane
// of four pixels. Four weights of 24 bits need 96, so three multiplications are the fewest possible, and three suffice
// (pack_pairs). The result is the scalar kernel's 32-bit sum.
#include "avx.hpp"
#include "packing.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr Packing kPacking{kPairHead, kPairWords, pack_pairs};

  struct Weights {
    __m256i both, odd, even;
  };

  static Weights load_weights(const std::uint32_t* words) {
    return {broadcast(words[0]), broadcast(words[1]), broadcast(words[2])};
  }

  static __m256i prepared(__m256i bytes) { return _mm256_xor_si256(bytes, _mm256_set1_epi16(static_cast<short>(0x8000))); }

  struct Sums {
    __m256i low, high;

    void start(const std::uint32_t* packed) {
      low = broadcast(packed[0]);
      high = _mm256_setzero_si256();
    }

    void add(__m256i words, const Weights& weights) {
      const __m256i both = in_register(words);
      const __m256i odd = _mm256_srai_epi16(both, 8);
      const __m256i even = _mm256_and_si256(both, _mm256_set1_epi16(0x00FF));
      low = in_register(_mm256_add_epi32(low, _mm256_madd_epi16(both, weights.both)));
      low = in_register(_mm256_add_epi32(low, _mm256_madd_epi16(odd, weights.odd)));
      high = in_register(_mm256_add_epi32(high, _mm256_madd_epi16(even, weights.even)));
    }
    __m256i pixels() const {
      return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, 8), low), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kAvx2Kernels = avx_kernels<Math>("avx2");

}  // namespace cyclegan_edge
