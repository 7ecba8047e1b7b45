// NEON with the dot product of Armv8.2: sdot multiplies four signed pixels by four signed digits (pack_digits), four lanes at
// a time. It gets p - 128, and the sum starts with 128 times the weights. All modulo 2^32, so the result is the scalar
// kernel's 32-bit sum.
#include "neon.hpp"
#include "packing.hpp"

namespace cyclegan_edge {
namespace {

void pack_with_start(const std::int32_t* weights, int groups, std::uint32_t* packed) {
  packed[0] = kHalf;
  for (int k = 0; k < groups * kGroup; ++k) packed[0] += 128U * static_cast<std::uint32_t>(weights[k]);
  pack_digits(weights, groups, packed + 1);
}

struct Math {
  static constexpr Packing kPacking{1, kDigits, pack_with_start};

  static uint32x4_t prepared(uint32x4_t words) { return veorq_u32(words, vdupq_n_u32(0x80808080U)); }

  struct Sums {
    int32x4_t digit[kDigits][2];

    void start(const std::uint32_t* packed) {
      for (int half = 0; half < 2; ++half) {
        digit[0][half] = vreinterpretq_s32_u32(vld1q_dup_u32(packed));
        digit[1][half] = digit[2][half] = vdupq_n_s32(0);
      }
    }

    void add(const std::uint32_t* words, const std::uint32_t* packed) {
      const int8x16_t digits = vreinterpretq_s8_u32(vld1q_u32(packed));
      for (int half = 0; half < 2; ++half) {
        const int8x16_t pixels = vreinterpretq_s8_u32(vld1q_u32(words + 4 * half));
        digit[0][half] = vdotq_laneq_s32(digit[0][half], pixels, digits, 0);
        digit[1][half] = vdotq_laneq_s32(digit[1][half], pixels, digits, 1);
        digit[2][half] = vdotq_laneq_s32(digit[2][half], pixels, digits, 2);
      }
    }

    void finish(int32x4_t lanes[2]) const {
      for (int half = 0; half < 2; ++half) {
        const int32x4_t high = vaddq_s32(vshlq_n_s32(digit[2][half], 8), digit[1][half]);
        lanes[half] = vshrq_n_s32(vaddq_s32(vshlq_n_s32(high, 8), digit[0][half]), kWeightBits);
      }
    }
  };
};

}  // namespace

const Kernels kNeonDotKernels = neon_kernels<Math>("neon_dot");

}  // namespace cyclegan_edge
