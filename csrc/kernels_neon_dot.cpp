// NEON with the dot product of Armv8.2. A weight is three signed 8-bit digits (base 256, most significant last). sdot
// wants signed pixels too: it gets p - 128, and 128 times the weights' sum is added back. All modulo 2^32, so the result is
// the scalar kernel's 32-bit sum.
#include "neon.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr int kDigits = 3;
  static constexpr int kWords = 4;  // three digits, and 128 times the sum of the four weights

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
    words[kDigits] = 128U * static_cast<std::uint32_t>(four[0] + four[1] + four[2] + four[3]);
  }

  struct Sums {
    int32x4_t digit[kDigits][2] = {};
    int32x4_t offset = vdupq_n_s32(kHalf);  // its last lane counts

    void add(const std::uint32_t* words, const std::uint32_t* packed) {
      const int32x4_t weights = vreinterpretq_s32_u32(vld1q_u32(packed));
      const int8x16_t digits = vreinterpretq_s8_s32(weights);
      offset = vaddq_s32(offset, weights);
      for (int half = 0; half < 2; ++half) {
        const uint8x16_t bytes = vreinterpretq_u8_u32(vld1q_u32(words + 4 * half));
        const int8x16_t pixels = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
        digit[0][half] = vdotq_laneq_s32(digit[0][half], pixels, digits, 0);
        digit[1][half] = vdotq_laneq_s32(digit[1][half], pixels, digits, 1);
        digit[2][half] = vdotq_laneq_s32(digit[2][half], pixels, digits, 2);
      }
    }

    void finish(int32x4_t lanes[2]) const {
      for (int half = 0; half < 2; ++half) {
        const int32x4_t high = vaddq_s32(vshlq_n_s32(digit[2][half], 8), digit[1][half]);
        const int32x4_t low = vaddq_s32(digit[0][half], vdupq_laneq_s32(offset, 3));
        lanes[half] = vshrq_n_s32(vaddq_s32(vshlq_n_s32(high, 8), low), kWeightBits);
      }
    }
  };
};

}  // namespace

const Kernels kNeonDotKernels = neon_kernels<Math>("neon_dot");

}  // namespace cyclegan_edge
