#include "resize.hpp"

#include <algorithm>
#include <new>
#include <vector>

namespace cyclegan_edge {
namespace {

constexpr int kWordsPerVector = 16;

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

constexpr std::align_val_t kCacheLine{64};  // a vector that lies across two costs two accesses

class Words {
 public:
  Words() = default;
  ~Words() { release(); }
  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;

  // Memory for `size` words, not initialised; what was there before is lost.
  std::uint32_t* at_least(std::size_t size) {
    if (size > size_) {
      release();
      data_ = static_cast<std::uint32_t*>(::operator new(size * sizeof(std::uint32_t), kCacheLine));
      size_ = size;
    }
    return data_;
  }
  std::uint32_t* data() const { return data_; }
  std::size_t size() const { return size_; }
  void release() {
    ::operator delete(data_, kCacheLine);
    data_ = nullptr;
    size_ = 0;
  }

 private:
  std::uint32_t* data_ = nullptr;
  std::size_t size_ = 0;
};

constexpr std::size_t kKeptWords = 1 << 21;  // 8 MiB in each buffer

// What one thread needs for one picture, and keeps for the next unless it is large.
struct Workspace {
  Words planes;
  Words band;
  std::vector<const std::uint32_t*> groups;
  TapsMemory taps;

  void trim() {
    for (Words* words : {&planes, &band})
      if (words->size() > kKeptWords) words->release();
  }
};

Workspace& workspace() {
  thread_local Workspace space;
  return space;
}

// The band is a ring of groups: the horizontal pass writes a strip of them, the vertical pass reads those of one row.
class Band {
 public:
  Band(Workspace& space, int capacity, int width)
      : capacity_(capacity), pitch_(round_up(width, kWordsPerVector)), space_(space) {
    space.band.at_least(static_cast<std::size_t>(capacity) * static_cast<std::size_t>(group_size()));
  }
  std::uint32_t* group(int index) { return space_.band.data() + index % capacity_ * group_size(); }
  const std::uint32_t* const* groups(int begin, int count) {
    if (space_.groups.size() < Taps::index(count)) space_.groups.resize(Taps::index(count));
    for (int k = 0; k < count; ++k) space_.groups[Taps::index(k)] = group(begin + k);
    return space_.groups.data();
  }
  std::ptrdiff_t pitch() const { return pitch_; }

 private:
  std::ptrdiff_t group_size() const { return kChannels * pitch_; }

  int capacity_;
  std::ptrdiff_t pitch_;
  Workspace& space_;
};

int most_groups(const Taps& taps, int first, int count) {
  const auto begin = taps.group_count.begin() + first;
  return *std::max_element(begin, begin + count);
}

// Calls store(span, y) for each row y of the crop, from top to bottom.
template <typename Store>
void run_passes(const Job& job, const Kernels& kernels, Workspace& space, Store store) {
  const auto column_taps = space.taps.cubic(job.source.width, job.size.width, Groups::similar, kernels.packing);
  const auto row_taps = space.taps.cubic(job.source.height, job.size.height, Groups::needed, kernels.packing);
  const Taps& columns = *column_taps;
  const Taps& rows = *row_taps;
  const int strip_groups = kernels.rows / kGroup;
  const int first_row = rows.begin[Taps::index(job.crop.top)];
  const int last_row = rows.end(job.crop.top + job.crop.height - 1) - 1;
  const int first_group = first_row / kGroup;

  // Alive at a time: the groups of one row, and what its last strip brought beyond them.
  Band band(space, round_up(most_groups(rows, job.crop.top, job.crop.height) + strip_groups, strip_groups),
            job.crop.width);
  Strip strip{};
  strip.width = job.source.width;
  strip.next = job.source.stride * kernels.rows;
  strip.columns = {columns.begin.data(),         columns.count.data(), columns.offset.data(),
                   columns.weights.data(),       columns.most_groups,  columns.group_begin.data(),
                   columns.group_count.data(),   columns.packed_offset.data(),
                   columns.packed.data()};
  strip.first = job.crop.left;
  strip.count = job.crop.width;
  strip.flip = job.flip;
  strip.pitch = band.pitch();
  const int column_groups = (job.source.width + kGroup - 1) / kGroup;
  strip.planes = space.planes.at_least(Taps::index(column_groups) * Taps::index(kernels.block));

  Span span{};
  span.width = job.crop.width;
  for (int channel = 0; channel < kChannels; ++channel)
    span.plane[channel] = band.pitch() * (job.bgr ? kChannels - 1 - channel : channel);

  int made = 0;  // groups of the band, counted from first_group: ring positions start at 0
  for (int y = 0; y < job.crop.height; ++y) {
    const int x = job.crop.top + y;
    for (; first_group + made < rows.group_end(x); made += strip_groups) {
      for (int k = 0; k < kernels.rows; ++k)  // rows that no target row needs are read as their neighbour
        strip.rows[k] = job.source.row(std::clamp((first_group + made) * kGroup + k, first_row, last_row));
      strip.band = band.group(made);
      kernels.horizontal(strip);
    }
    span.group_count = rows.group_count[Taps::index(x)];
    span.groups = band.groups(rows.group_begin[Taps::index(x)] - first_group, span.group_count);
    span.weights = rows.packed_weight(x);
    store(span, y);
  }
}

// Pillow 12 shrinks a picture more than a hundred times as high as wide vertically first, and rounds in between.
bool vertical_first(const Job& job) {
  return job.source.height > 100LL * job.source.width && job.size.height < job.source.height;
}

template <typename Store>
void run(const Job& job, const Kernels& kernels, Workspace& space, Store store) {
  if (!vertical_first(job)) return run_passes(job, kernels, space, store);
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(job.source.width) * kChannels;
  std::vector<std::uint8_t> low(static_cast<std::size_t>(stride * job.crop.height));
  const Job shrink{job.source, {job.size.height, job.source.width}, {job.crop.top, 0, job.crop.height, job.source.width}};
  run_passes(shrink, kernels, space, [&](const Span& span, int y) { kernels.vertical_bytes(span, low.data() + y * stride); });

  Job rest = job;
  rest.source = {low.data(), stride, job.source.width, job.crop.height};
  rest.size.height = job.crop.height;
  rest.crop.top = 0;
  run_passes(rest, kernels, space, store);
}

}  // namespace

void resize(const Job& job, const Target& target, const Kernels& kernels) {
  Workspace& space = workspace();
  std::uint8_t* const data = static_cast<std::uint8_t*>(target.data);
  if (target.format == Format::bytes) {
    run(job, kernels, space, [&](const Span& span, int y) { kernels.vertical_bytes(span, data + y * target.row); });
  } else {
    run(job, kernels, space, [&](const Span& span, int y) {
      float* planes[kChannels];
      for (int channel = 0; channel < kChannels; ++channel)
        planes[channel] = reinterpret_cast<float*>(data + y * target.row + channel * target.plane);
      kernels.vertical_floats(span, planes);
    });
  }
  space.trim();
}

}  // namespace cyclegan_edge
