// What one step did to one leaf, as sums over its elements: what each is stands in adamx/diagnostics/_sums.py.
//
// Elements are added up in sixteen lanes, whatever the machine's vectors are, and runs of them in double, in their
// order: the number of threads changes no bit of what is said.

#ifndef ADAMX_SUMS_H_
#define ADAMX_SUMS_H_

#include <cmath>
#include <vector>

#include "interface.h"
#include "machine.h"

namespace adamx {

constexpr int kLanes = 16;
constexpr int64_t kRun = 1 << 15;  // elements whose lanes are float and int32

struct Account {
  const float* g;
  const float* before;
  const float* after;
  const float* mu;  // null if there are no moments
  const float* nu;
  bool square;      // whether nu's root is meant
  int64_t size;
  Numbers numbers;
};

struct Lanes {
  alignas(64) float added[kAdded][kLanes];
  alignas(64) int32_t counted[kCounted][kLanes];
  alignas(64) int32_t largest[kLargest][kLanes];
};

struct Totals {
  double size, added[kAdded], counted[kCounted];
  int32_t largest[kLargest];

  void Add(int64_t elements, const Lanes& lanes) {
    size += static_cast<double>(elements);
    for (int l = 0; l < kLanes; ++l) {
      for (int k = 0; k < kAdded; ++k) added[k] += lanes.added[k][l];
      for (int k = 0; k < kCounted; ++k) counted[k] += lanes.counted[k][l];
      for (int k = 0; k < kLargest; ++k) largest[k] = std::max(largest[k], lanes.largest[k][l]);
    }
  }

  void Add(const Totals& other) {
    size += other.size;
    for (int k = 0; k < kAdded; ++k) added[k] += other.added[k];
    for (int k = 0; k < kCounted; ++k) counted[k] += other.counted[k];
    for (int k = 0; k < kLargest; ++k) largest[k] = std::max(largest[k], other.largest[k]);
  }

  void Write(float* out) const {
    *out++ = static_cast<float>(size);
    for (double sum : added) *out++ = static_cast<float>(sum);
    for (double sum : counted) *out++ = static_cast<float>(sum);
    for (int32_t bits : largest) *out++ = Float(bits);
  }
};

// What one element adds to its lane

template <bool kMeans>
struct Weights {
  static INLINE void Add(const Account& a, int64_t i, int l, Lanes& lanes) {
    const float g = a.g[i] * a.numbers.scale, before = a.before[i], after = a.after[i];
    const float change = after - before, size = std::fabs(change);
    const float wanted = kMeans ? a.mu[i] : g;
    lanes.added[kGradient][l] += g * g;
    lanes.added[kUpdate][l] += change * change;
    lanes.added[kWeight][l] += before * before;
    lanes.added[kMoved][l] += size;
    lanes.counted[kPulled][l] += g != 0;
    lanes.counted[kAgainst][l] += ((g > 0) & (change < 0)) | ((g < 0) & (change > 0));
    lanes.counted[kStalled][l] += (wanted != 0) & (after == before);
    lanes.counted[kNonfinite][l] += !Finite(g);
    lanes.largest[kStepMax][l] = std::max(lanes.largest[kStepMax][l], Bits(size));
  }
};

template <bool kSquares>
struct Moments {
  static INLINE void Add(const Account& a, int64_t i, int l, Lanes& lanes) {
    const float root = kSquares ? std::sqrt(a.nu[i]) : a.nu[i];
    const bool still = root == 0;
    const float quotient = std::fabs(a.mu[i] / (still ? 1.0f : root)), ratio = still ? 0.0f : quotient;
    lanes.added[kRatio][l] += ratio;
    lanes.counted[kDominated][l] += !still & (root * a.numbers.root < a.numbers.eps);
    lanes.counted[kIdle][l] += still;
    lanes.largest[kRatioMax][l] = std::max(lanes.largest[kRatioMax][l], Bits(ratio));
  }
};

template <class Each>
INLINE void ForEach(const Account& account, int64_t first, int64_t last, Lanes& out) {
  const Account a = account;
  Lanes lanes = out;
  int64_t i = first;
  for (; i + kLanes <= last; i += kLanes)
    for (int l = 0; l < kLanes; ++l) Each::Add(a, i + l, l, lanes);
  for (int l = 0; i + l < last; ++l) Each::Add(a, i + l, l, lanes);
  out = lanes;
}

// A block at a time, so that the moments' loop finds the means in the first-level cache.
FOR_EACH_MACHINE void AddUp(const Account& a, int64_t first, int64_t last, Lanes& lanes) {
  constexpr int64_t block = 1024;
  for (int64_t at = first; at < last; at += block) {
    const int64_t end = std::min(at + block, last);
    if (a.mu == nullptr) {
      ForEach<Weights<false>>(a, at, end, lanes);
      continue;
    }
    ForEach<Weights<true>>(a, at, end, lanes);
    if (a.square) ForEach<Moments<true>>(a, at, end, lanes);
    else ForEach<Moments<false>>(a, at, end, lanes);
  }
}

template <class Pool>
Totals Told(const Account& a, Pool& pool) {
  const int64_t runs = (a.size + kRun - 1) / kRun;
  std::vector<Totals> parts(static_cast<size_t>(runs));
  InParts(runs, pool, [&a, &parts](int64_t run) {
    const int64_t first = run * kRun, last = std::min(first + kRun, a.size);
    Lanes lanes{};
    AddUp(a, first, last, lanes);
    parts[static_cast<size_t>(run)].Add(last - first, lanes);
  });
  Totals all{};
  for (const Totals& part : parts) all.Add(part);
  return all;
}

}  // namespace adamx

#endif
