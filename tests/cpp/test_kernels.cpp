// Every instruction set against the scalar kernel, and the scalar kernel against sums taken from Pillow 12.
//   test_kernels [cases]     random cases for each instruction set, 2000 unless told
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cpu.hpp"
#include "guarded.hpp"
#include "packing.hpp"
#include "resize.hpp"

using namespace cyclegan_edge;

namespace {

int failures = 0;

void check(bool holds, const char* isa, const char* what, const Job& job) {
  if (holds) return;
  ++failures;
  std::printf("FAILED %s %s: %dx%d (stride %td) -> %dx%d, crop %d %d %d %d, flip %d, bgr %d\n", isa, what,
              job.source.width, job.source.height, job.source.stride, job.size.width, job.size.height, job.crop.left,
              job.crop.top, job.crop.width, job.crop.height, job.flip, job.bgr);
}

std::vector<std::uint8_t> noise(int height, int width) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * 3);
  std::uint32_t state = 1;
  for (std::uint8_t& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::uint8_t>(state >> 24);
  }
  return bytes;
}

std::uint64_t fnv1a(const std::vector<std::uint8_t>& bytes) {
  std::uint64_t hash = 14695981039346656037U;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 1099511628211U;
  return hash;
}

// Made with Pillow: noise() above, Image.resize((width, height), BICUBIC), FNV-1a of the bytes.
struct Known {
  Size source, size;
  std::uint64_t hash;
};
constexpr Known kKnown[] = {
#include "known.inc"
};

void resize_to_bytes(const Job& job, void* target, const Kernels& kernels) {
  resize(job, {target, Format::bytes, job.crop.width * 3}, kernels);
}

void resize_to_floats(const Job& job, void* target, const Kernels& kernels) {
  const std::ptrdiff_t row = job.crop.width * static_cast<std::ptrdiff_t>(sizeof(float));
  resize(job, {target, Format::floats, row, row * job.crop.height}, kernels);
}

void test_known_sums(const Kernels& kernels) {
  for (const Known& known : kKnown) {
    const std::vector<std::uint8_t> image = noise(known.source.height, known.source.width);
    const Job job{{image.data(), known.source.width * 3, known.source.width, known.source.height},
                  known.size,
                  {0, 0, known.size.height, known.size.width}};
    std::vector<std::uint8_t> target(static_cast<std::size_t>(known.size.height) *
                                     static_cast<std::size_t>(known.size.width) * 3);
    resize_to_bytes(job, target.data(), kernels);
    check(fnv1a(target) == known.hash, kernels.name, "Pillow's sum", job);
  }
}

class Dice {
 public:
  explicit Dice(unsigned seed) : engine_(seed) {}
  int roll(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }

 private:
  std::mt19937 engine_;
};

// Every weight must come back from 16-bit parts: those near the ends of the range, and random ones.
void test_pairs(unsigned cases) {
  constexpr int kMost = 9 << 19;  // 1.125 * 2^22
  Dice dice(1);
  const int ends[] = {-kMost, -kMost + 127, -32769, -32768, -129, -128, 0, 127, 128, 32767, 1 << 22, kMost};
  for (unsigned i = 0; i < cases; ++i) {
    std::int32_t weights[kGroup];
    for (std::int32_t& weight : weights) weight = dice.roll(0, 1) ? dice.roll(-kMost, kMost) : ends[dice.roll(0, 11)];
    std::uint32_t packed[kPairHead + kPairWords];
    pack_pairs(weights, 1, packed);
    const auto part = [&](int k, int half) {
      return static_cast<std::int32_t>(static_cast<std::int16_t>(packed[kPairHead + k] >> (16 * half)));
    };
    bool holds = packed[0] == static_cast<std::uint32_t>(kHalf) + 128U * static_cast<std::uint32_t>(weights[1] + weights[3]);
    for (int half = 0; half < 2; ++half) {
      holds = holds && part(0, half) + 256 * part(2, half) == weights[2 * half];
      holds = holds && 256 * part(0, half) + part(1, half) == weights[2 * half + 1];
    }
    if (holds) continue;
    ++failures;
    std::printf("FAILED pack_pairs: %d %d %d %d\n", weights[0], weights[1], weights[2], weights[3]);
  }
}

void test_random_case(const Kernels& kernels, unsigned seed) {
  Dice dice(seed);
  const int largest = dice.roll(0, 49) == 0 ? 1200 : dice.roll(0, 3) == 0 ? 200 : 48;
  const int height = dice.roll(1, largest), width = dice.roll(1, largest);
  const bool enlarge = largest == 48 && dice.roll(0, 9) == 0;
  const Size size = enlarge ? Size{height * dice.roll(1, 20), width * dice.roll(1, 20)}
                            : Size{dice.roll(1, largest), dice.roll(1, largest)};
  const auto at = dice.roll(0, 1) ? Guarded::At::end : Guarded::At::start;
  const std::ptrdiff_t stride = width * 3 + (dice.roll(0, 1) ? dice.roll(0, 70) : 0);
  const std::size_t bytes = static_cast<std::size_t>(stride * (height - 1) + width * 3);
  const Guarded source(bytes, at);
  const int kind = dice.roll(0, 2);
  for (std::size_t i = 0; i < bytes; ++i)
    source.data()[i] = static_cast<std::uint8_t>(kind == 0 ? dice.roll(0, 255) : kind == 1 ? 255 * dice.roll(0, 1) : i % 2 * 255);

  Job job{{source.data(), stride, width, height}, size, {}};
  job.crop.top = dice.roll(0, size.height - 1);
  job.crop.left = dice.roll(0, size.width - 1);
  job.crop.height = dice.roll(1, size.height - job.crop.top);
  job.crop.width = dice.roll(1, size.width - job.crop.left);
  job.flip = dice.roll(0, 1) == 1;
  job.bgr = dice.roll(0, 1) == 1;

  const std::size_t count = static_cast<std::size_t>(job.crop.height) * static_cast<std::size_t>(job.crop.width) * 3;
  std::vector<std::uint8_t> expected_bytes(count);
  std::vector<float> expected_floats(count);
  resize_to_bytes(job, expected_bytes.data(), kScalarKernels);
  resize_to_floats(job, expected_floats.data(), kScalarKernels);
  const Guarded bytes_target(count, at), floats_target(count * sizeof(float), at);
  resize_to_bytes(job, bytes_target.data(), kernels);
  resize_to_floats(job, floats_target.data(), kernels);
  check(std::memcmp(expected_bytes.data(), bytes_target.data(), count) == 0, kernels.name, "bytes", job);
  check(std::memcmp(expected_floats.data(), floats_target.data(), count * sizeof(float)) == 0, kernels.name, "floats", job);
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned cases = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 2000;
  test_pairs(100 * cases);
  for (const Kernels* kernels : available_kernels()) {
    test_known_sums(*kernels);
    for (unsigned seed = 0; seed < cases; ++seed) test_random_case(*kernels, seed);
    std::printf("%s: %zu sums of Pillow, %u random cases\n", kernels->name, std::size(kKnown), cases);
  }
  std::printf(failures ? "%d FAILED\n" : "all equal\n", failures);
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
