// NEON, as every aarch64 CPU has it. smlal multiplies eight lanes' pixels, two of each in 16 bits, by one weight at a time:
// twelve multiplications of eight lanes for four pixels (pack_pairs). The result is the scalar kernel's 32-bit sum.
#include "neon.hpp"
#include "packing.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr Packing kPacking{kPairHead, kPairWords, pack_pairs};

  static uint32x4_t prepared(uint32x4_t words) { return veorq_u32(words, vdupq_n_u32(0x80008000U)); }

  struct Sums {
    int32x4_t low[2], high[2];

    void start(const std::uint32_t* packed) {
      for (int half = 0; half < 2; ++half) {
        low[half] = vreinterpretq_s32_u32(vld1q_dup_u32(packed));
        high[half] = vdupq_n_s32(0);
      }
    }

    template <int K>
    static void multiply(int32x4_t sums[2], int16x8_t pixels, int16x8_t weights) {
      sums[0] = vmlal_laneq_s16(sums[0], vget_low_s16(pixels), weights, K);
      sums[1] = vmlal_high_laneq_s16(sums[1], pixels, weights, K);
    }

    template <int Pair>  // 0: pixels 0 1; 1: pixels 2 3
    void add_pair(uint16x8_t words, int16x8_t weights) {
      const int16x8_t both = vreinterpretq_s16_u16(words);
      multiply<Pair>(low, both, weights);
      multiply<2 + Pair>(low, vshrq_n_s16(both, 8), weights);
      multiply<4 + Pair>(high, vandq_s16(both, vdupq_n_s16(0x00FF)), weights);
    }

    void add(const std::uint32_t* words, const std::uint32_t* packed) {
      const uint16x8x2_t pairs = vld2q_u16(reinterpret_cast<const std::uint16_t*>(words));  // one of each of eight words
      const int16x8_t weights = vreinterpretq_s16_u32(vld1q_u32(packed));
      add_pair<0>(pairs.val[0], weights);
      add_pair<1>(pairs.val[1], weights);
    }

    void finish(int32x4_t lanes[2]) const {
      for (int half = 0; half < 2; ++half)
        lanes[half] = vshrq_n_s32(vaddq_s32(vshlq_n_s32(high[half], 8), low[half]), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kNeonKernels = neon_kernels<Math>("neon");

}  // namespace cyclegan_edge
