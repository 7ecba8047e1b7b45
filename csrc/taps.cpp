// The arithmetic, in double and in this order, is that of Pillow's Resample.c (precompute_coeffs, normalize_coeffs_8bpc):
// one rounding elsewhere would move a weight by one unit and, rarely, a pixel by one level. Compiled without contraction
// to fused multiply-add for the same reason.
#include "taps.hpp"

#include <algorithm>
#include <cmath>

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

void pack_groups(Taps& taps, int x, PackWeights pack) {
  const std::size_t i = Taps::index(x);
  const int first = taps.begin[i] / kGroup;
  const int last = (taps.end(x) - 1) / kGroup;
  taps.group_begin[i] = first;
  taps.group_count[i] = last - first + 1;
  taps.packed_offset[i] = taps.packed.size();
  const std::int32_t* weight = taps.weight(x);
  for (int group = first; group <= last; ++group) {
    std::int32_t four[kGroup];
    for (int k = 0; k < kGroup; ++k) {
      const int tap = group * kGroup + k - taps.begin[i];
      four[k] = tap >= 0 && tap < taps.count[i] ? weight[tap] : 0;
    }
    taps.packed.resize(taps.packed.size() + Taps::index(taps.words));
    pack(four, taps.packed.data() + taps.packed.size() - taps.words);
  }
}

}  // namespace

Taps cubic_taps(int source, int target, int words, PackWeights pack) {
  const double scale = static_cast<double>(source) / target;
  const double stretch = std::max(scale, 1.0);
  const double support = kSupport * stretch;
  const double shrink = 1.0 / stretch;
  const bool unchanged = source == target;  // the filter is 1 at 0 and 0 at -1, 1, 2: leave those out
  const std::size_t positions = Taps::index(target);

  Taps taps;
  taps.source = source;
  taps.target = target;
  taps.words = words;
  taps.begin.resize(positions);
  taps.count.resize(positions);
  taps.offset.resize(positions);
  taps.group_begin.resize(positions);
  taps.group_count.resize(positions);
  taps.packed_offset.resize(positions);

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

    pack_groups(taps, x, pack);
  }
  return taps;
}

}  // namespace cyclegan_edge
