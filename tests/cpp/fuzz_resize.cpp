// libFuzzer: any picture, sizes, crop, strides and flags; every kernel must equal the scalar one and stay inside its memory.
//   cmake -S tests/cpp -B build/fuzz -DFUZZ=ON -DCMAKE_CXX_COMPILER=clang++ && cmake --build build/fuzz
//   build/fuzz/fuzz_resize -max_total_time=600 -max_len=4096 build/fuzz/corpus
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "cpu.hpp"
#include "guarded.hpp"
#include "resize.hpp"

using namespace cyclegan_edge;

namespace {

// Numbers from the front of the input, the picture's bytes from the rest, repeated.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  int number(int low, int high) {  // both included
    std::uint32_t value = 0;
    for (int k = 0; k < 2; ++k) value = value << 8 | byte();
    return low + static_cast<int>(value % static_cast<std::uint32_t>(high - low + 1));
  }
  std::uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  void fill(std::uint8_t* bytes, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) bytes[i] = at_ < size_ ? data_[at_ + i % (size_ - at_)] : 255;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr int kLargest = 400;
  constexpr int kMostPixels = 1 << 14;  // of source and of target: many small cases beat few large ones
  Input input(data, size);
  const int height = input.number(1, kLargest), width = input.number(1, std::min(kLargest, kMostPixels / height));
  Job job{};
  job.size.height = input.number(1, kLargest);
  job.size.width = input.number(1, std::min(kLargest, kMostPixels / job.size.height));
  job.crop.top = input.number(0, job.size.height - 1);
  job.crop.left = input.number(0, job.size.width - 1);
  job.crop.height = input.number(1, job.size.height - job.crop.top);
  job.crop.width = input.number(1, job.size.width - job.crop.left);
  const int flags = input.byte();
  job.flip = flags & 1;
  job.bgr = flags & 2;
  const auto at = flags & 4 ? Guarded::At::end : Guarded::At::start;
  const Format format = flags & 8 ? Format::floats : Format::bytes;
  const std::ptrdiff_t item = format == Format::floats ? sizeof(float) : 3;
  const std::ptrdiff_t stride = width * 3 + (flags & 64 ? input.number(0, 64) : 0);

  const std::size_t bytes = static_cast<std::size_t>((height - 1) * stride + width * 3);
  const Guarded source(bytes, at);
  input.fill(source.data(), bytes);
  job.source = {source.data(), stride, width, height};

  const std::ptrdiff_t row = job.crop.width * item;
  const std::size_t count = static_cast<std::size_t>(row * job.crop.height * (format == Format::floats ? 3 : 1));
  std::vector<std::uint8_t> expected(count);
  resize(job, {expected.data(), format, row, row * job.crop.height}, kScalarKernels);
  for (const Kernels* kernels : available_kernels()) {
    const Guarded target(count, at);
    resize(job, {target.data(), format, row, row * job.crop.height}, *kernels);
    if (std::memcmp(expected.data(), target.data(), count) != 0) std::abort();
  }
  return 0;
}
