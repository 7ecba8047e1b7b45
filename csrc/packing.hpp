// How the kernels want the weights of one position (Packing in taps.hpp). |weight| <= 1.125 * 2^22, as taps.cpp makes them.
#pragma once

#include <cstdint>

namespace cyclegan_edge {

// Three words for each group: the digits of its four weights, base 256 and signed, least significant first.
// The last digit is at most 72.
constexpr int kDigits = 3;
void pack_digits(const std::int32_t* weights, int groups, std::uint32_t* packed);

// For multiplications of 16-bit numbers in pairs. Two neighbouring pixels p, q share 16 bits, with q - 128 in place of q,
// so that the high byte carries the sign:
//     both = p + 256 (q - 128)     times a
//     odd  = q - 128               times b, onto the same sum
//     even = p                     times c, onto a sum of its own that counts 256 times
// makes the weight of q 256 a + b, and the weight of p a + 256 c. Given the two, a is the number near a 256th of the former
// that leaves a multiple of 256 in the latter: |a| <= 1.125 * 2^14 + 129 and |c| <= 1.125 * 2^14 + 73.
// Everything is put together modulo 2^32. The first word is where the sum starts: half a level, and 128 times the weights of
// all q. Then come three words for each group: a, b, c, of pixels 0 1 in the low half and of pixels 2 3 in the high half.
constexpr int kPairHead = 1;
constexpr int kPairWords = 3;
void pack_pairs(const std::int32_t* weights, int groups, std::uint32_t* packed);

}  // namespace cyclegan_edge
