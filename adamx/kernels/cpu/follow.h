// Averages of the weights, moved while the weights that they follow are in the cache.

#ifndef ADAMX_FOLLOW_H_
#define ADAMX_FOLLOW_H_

#include "leaf.h"

namespace adamx {

constexpr int64_t kRun = 4 * kBlock;  // elements that are stepped and followed at a time

// Of `n` weights, whole groups, everything in float.
FOR_EACH_MACHINE void Follow(const Leaf& leaf, float* RESTRICT p, float* const* averages, int64_t n) {
  if (leaf.p_narrow && leaf.rounding == Rounding::kNearest)
    for (int64_t i = 0; i < n; ++i) p[i] = Widened(Narrowed(p[i]));
  for (int j = 0; j < leaf.trails; ++j) {
    float* RESTRICT x = averages[j];
    const float share = j == 0 ? leaf.scalars.first_share : leaf.scalars.second_share, rest = 1 - share;
    if (share < 0.5f)
      for (int64_t i = 0; i < n; ++i) x[i] += share * (p[i] - x[i]);
    else
      for (int64_t i = 0; i < n; ++i) x[i] = p[i] + rest * (x[i] - p[i]);
  }
}

}  // namespace adamx

#endif
