// The arithmetic, in double and in this order, is that of Pillow's Resample.c (precompute_coeffs, normalize_coeffs_8bpc):
// one rounding elsewhere would move a weight by one unit and, rarely, a pixel by one level. Compiled without contraction
// to fused multiply-add for the same reason.
#include "taps.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace cyclegan_edge {
namespace {

constexpr double kSupport = 2.0;  // source pixels on each side, at no reduction

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

std::int32_t fixed_point(double weight) {
  const double scaled = weight * (1 << kWeightBits);
  return static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

int groups_needed(const Taps& taps, std::size_t i) {
  return (taps.begin[i] + taps.count[i] - 1) / kGroup - taps.begin[i] / kGroup + 1;
}

void pack_groups(Taps& taps, Groups groups, const Packing& packing) {
  const std::size_t positions = taps.begin.size();
  const int groups_in_source = (taps.source + kGroup - 1) / kGroup;
  for (std::size_t i = 0; i < positions; ++i) taps.most_groups = std::max(taps.most_groups, groups_needed(taps, i));
  taps.group_begin.resize(positions);
  taps.group_count.resize(positions);
  taps.packed_offset.resize(positions);
  taps.packed.reserve(positions * static_cast<std::size_t>(packing.head + taps.most_groups * packing.words));
  std::vector<std::int32_t> padded;
  for (std::size_t i = 0; i < positions; ++i) {
    const int fewest = groups == Groups::similar ? std::max(taps.most_groups - 1, std::min(taps.most_groups, 2)) : 1;
    const int count = std::max(groups_needed(taps, i), fewest);
    const int first = std::min(taps.begin[i] / kGroup, groups_in_source - count);
    taps.group_begin[i] = first;
    taps.group_count[i] = count;
    taps.packed_offset[i] = taps.packed.size();
    const auto weights = taps.weights.begin() + static_cast<std::ptrdiff_t>(taps.offset[i]);
    padded.assign(Taps::index(count * kGroup), 0);
    std::copy(weights, weights + taps.count[i], padded.begin() + (taps.begin[i] - first * kGroup));
    taps.packed.resize(taps.packed.size() + static_cast<std::size_t>(packing.head + count * packing.words));
    packing.pack(padded.data(), count, taps.packed.data() + taps.packed_offset[i]);
  }
  taps.packed.push_back(0);  // NEON loads four words where it needs three
}

constexpr std::size_t kRememberedTaps = 8;
constexpr std::size_t kRememberedWeights = 1 << 16;  // more than that is not kept: 1 MB at most per entry

Taps compute(int source, int target) {
  const double scale = static_cast<double>(source) / target;
  const double stretch = std::max(scale, 1.0);
  const double support = kSupport * stretch;
  const double shrink = 1.0 / stretch;
  const bool unchanged = source == target;  // the filter is 1 at 0 and 0 at -1, 1, 2: leave those out
  const std::size_t positions = Taps::index(target);

  Taps taps;
  taps.source = source;
  taps.target = target;
  taps.begin.resize(positions);
  taps.count.resize(positions);
  taps.offset.resize(positions);

  std::vector<double> exact;
  for (int x = 0; x < target; ++x) {
    const std::size_t i = Taps::index(x);
    const double centre = (x + 0.5) * scale;
    const int begin = unchanged ? x : std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = unchanged ? x + 1 : std::min(static_cast<int>(centre + support + 0.5), source);
    const int count = end - begin;
    double sum = 0.0;
    exact.resize(Taps::index(count));
    for (int k = 0; k < count; ++k) {
      exact[Taps::index(k)] = cubic((k + begin - centre + 0.5) * shrink);
      sum += exact[Taps::index(k)];
    }
    taps.begin[i] = begin;
    taps.count[i] = count;
    taps.offset[i] = taps.weights.size();
    for (double weight : exact) taps.weights.push_back(fixed_point(sum != 0.0 ? weight / sum : weight));
  }
  return taps;
}

}  // namespace

std::shared_ptr<const Taps> TapsMemory::cubic(int source, int target, Groups groups, const Packing& packing) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return entry.source == source && entry.target == target && entry.groups == groups && entry.pack == packing.pack;
  });
  if (found != entries_.end()) {
    std::rotate(entries_.begin(), found, found + 1);
    return entries_.front().taps;
  }
  Taps taps = compute(source, target);
  pack_groups(taps, groups, packing);
  auto shared = std::make_shared<const Taps>(std::move(taps));
  if (shared->weights.size() <= kRememberedWeights) {
    if (entries_.size() == kRememberedTaps) entries_.pop_back();
    entries_.insert(entries_.begin(), {source, target, groups, packing.pack, shared});
  }
  return shared;
}

}  // namespace cyclegan_edge
