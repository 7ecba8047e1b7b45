// NEON, as every aarch64 CPU has it. A weight is two signed 16-bit halves; vmlal multiplies eight lanes' pixels by one half.
// The two sums are put together modulo 2^32, so the result is the scalar kernel's 32-bit sum.
#include "neon.hpp"

namespace cyclegan_edge {
namespace {

struct Math {
  static constexpr int kWords = 4;  // high halves of weights 0 1, of 2 3; low halves of 0 1, of 2 3

  static std::uint32_t pair(std::int32_t first, std::int32_t second) {
    return (static_cast<std::uint32_t>(first) & 0xFFFFU) | static_cast<std::uint32_t>(second) << 16;
  }

  static void pack(const std::int32_t* four, std::uint32_t* words) {
    std::int32_t high[4];
    for (int k = 0; k < 4; ++k) high[k] = (four[k] + 0x8000) >> 16;  // the low half is what is left: -2^15 .. 2^15 - 1
    words[0] = pair(high[0], high[1]);
    words[1] = pair(high[2], high[3]);
    words[2] = pair(four[0], four[1]);
    words[3] = pair(four[2], four[3]);
  }

  struct Sums {
    int32x4_t high[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    int32x4_t low[2] = {vdupq_n_s32(kHalf), vdupq_n_s32(kHalf)};

    template <int K>
    void add_byte(uint8x8_t bytes, int16x8_t weights) {
      const int16x8_t pixels = vreinterpretq_s16_u16(vmovl_u8(bytes));
      high[0] = vmlal_laneq_s16(high[0], vget_low_s16(pixels), weights, K);
      high[1] = vmlal_high_laneq_s16(high[1], pixels, weights, K);
      low[0] = vmlal_laneq_s16(low[0], vget_low_s16(pixels), weights, 4 + K);
      low[1] = vmlal_high_laneq_s16(low[1], pixels, weights, 4 + K);
    }

    void add(const std::uint32_t* words, const std::uint32_t* packed) {
      const uint8x8x4_t bytes = vld4_u8(reinterpret_cast<const std::uint8_t*>(words));  // byte k of eight words
      const int16x8_t weights = vreinterpretq_s16_u32(vld1q_u32(packed));
      add_byte<0>(bytes.val[0], weights);
      add_byte<1>(bytes.val[1], weights);
      add_byte<2>(bytes.val[2], weights);
      add_byte<3>(bytes.val[3], weights);
    }

    void finish(int32x4_t lanes[2]) const {
      for (int half = 0; half < 2; ++half)
        lanes[half] = vshrq_n_s32(vaddq_s32(vshlq_n_s32(high[half], 16), low[half]), kWeightBits);
    }
  };
};

}  // namespace

const Kernels kNeonKernels = neon_kernels<Math>("neon");

}  // namespace cyclegan_edge
