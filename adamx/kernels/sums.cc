// What one step did to one leaf, as sums over its elements: what each is stands in adamx/diagnostics/_sums.py.
//
// Elements are added up in sixteen lanes, whatever the machine's vectors are, and runs of them in double, in their
// order: the number of threads changes no bit of what is said.

#include <cmath>
#include <vector>

#include "native.h"

namespace adamx {

constexpr int kLanes = 16;
constexpr int64_t kRun = 1 << 15;  // elements whose lanes are float and int32

enum Given { kMoments = 1, kSquare = 2 };

struct Numbers {
  float scale;  // what gradients are multiplied with
  float root;   // what the root of v is multiplied with to be compared with eps
  float eps;
};
constexpr int kNumbers = sizeof(Numbers) / sizeof(float);

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

// In the order of the Python's `Sums`.
struct Totals {
  double size, gradient, update, weight, moved, pulled, against, stalled, nonfinite, ratio, dominated, idle;
  float step_max, ratio_max;

  void Add(const Totals& other) {
    size += other.size;
    gradient += other.gradient;
    update += other.update;
    weight += other.weight;
    moved += other.moved;
    pulled += other.pulled;
    against += other.against;
    stalled += other.stalled;
    nonfinite += other.nonfinite;
    ratio += other.ratio;
    dominated += other.dominated;
    idle += other.idle;
    step_max = Float(std::max(Bits(step_max), Bits(other.step_max)));
    ratio_max = Float(std::max(Bits(ratio_max), Bits(other.ratio_max)));
  }

  void Write(float* out) const {
    for (double sum : {size, gradient, update, weight, moved, pulled, against, stalled, nonfinite, ratio, dominated, idle})
      *out++ = static_cast<float>(sum);
    *out++ = step_max;
    *out = ratio_max;
  }
};
constexpr int kSums = 14;

// The largest are those of bit patterns: floats that are not negative are in their order, and NaN above all.
struct Lanes {
  alignas(64) float gradient[kLanes], update[kLanes], weight[kLanes], moved[kLanes], ratio[kLanes];
  alignas(64) int32_t pulled[kLanes], against[kLanes], stalled[kLanes], nonfinite[kLanes], dominated[kLanes];
  alignas(64) int32_t idle[kLanes], step_max[kLanes], ratio_max[kLanes];
};

// What one element adds to its lane

template <bool kMeans>
struct Weights {
  static INLINE void Add(const Account& a, int64_t i, int l, Lanes& lanes) {
    const float g = a.g[i] * a.numbers.scale, before = a.before[i], after = a.after[i];
    const float change = after - before, size = std::fabs(change);
    const float wanted = kMeans ? a.mu[i] : g;
    lanes.gradient[l] += g * g;
    lanes.update[l] += change * change;
    lanes.weight[l] += before * before;
    lanes.moved[l] += size;
    lanes.pulled[l] += g != 0;
    lanes.against[l] += ((g > 0) & (change < 0)) | ((g < 0) & (change > 0));
    lanes.stalled[l] += (wanted != 0) & (after == before);
    lanes.nonfinite[l] += !Finite(g);
    lanes.step_max[l] = std::max(lanes.step_max[l], Bits(size));
  }
};

template <bool kSquares>
struct Moments {
  static INLINE void Add(const Account& a, int64_t i, int l, Lanes& lanes) {
    const float root = kSquares ? std::sqrt(a.nu[i]) : a.nu[i];
    const bool still = root == 0;
    const float quotient = std::fabs(a.mu[i] / (still ? 1.0f : root)), ratio = still ? 0.0f : quotient;
    lanes.ratio[l] += ratio;
    lanes.dominated[l] += !still & (root * a.numbers.root < a.numbers.eps);
    lanes.idle[l] += still;
    lanes.ratio_max[l] = std::max(lanes.ratio_max[l], Bits(ratio));
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

template <class T>
double Sum(const T (&lanes)[kLanes]) {
  double sum = 0;
  for (T lane : lanes) sum += lane;
  return sum;
}

inline float Largest(const int32_t (&lanes)[kLanes]) { return Float(*std::max_element(lanes, lanes + kLanes)); }

// A block at a time, so that the moments' loop finds the means in the first-level cache.
FOR_EACH_MACHINE void AddUp(const Account& a, int64_t first, int64_t last, Totals& totals) {
  constexpr int64_t block = 1024;
  Lanes lanes{};
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
  totals = {static_cast<double>(last - first), Sum(lanes.gradient), Sum(lanes.update), Sum(lanes.weight),
            Sum(lanes.moved), Sum(lanes.pulled), Sum(lanes.against), Sum(lanes.stalled), Sum(lanes.nonfinite),
            Sum(lanes.ratio), Sum(lanes.dominated), Sum(lanes.idle), Largest(lanes.step_max),
            Largest(lanes.ratio_max)};
}

template <class Pool>
Totals Told(const Account& a, Pool& pool) {
  const int64_t runs = (a.size + kRun - 1) / kRun;
  std::vector<Totals> parts(static_cast<size_t>(runs));
  InParts(runs, pool, [&a, &parts](int64_t run) {
    AddUp(a, run * kRun, std::min((run + 1) * kRun, a.size), parts[static_cast<size_t>(run)]);
  });
  Totals all{};
  for (const Totals& part : parts) all.Add(part);
  return all;
}

}  // namespace adamx

#ifndef ADAMX_WITHOUT_XLA

#include "xla/ffi/api/ffi.h"

namespace adamx {

namespace ffi = xla::ffi;

// The operands are the numbers, then leaf by leaf gradient, weights before and after, and both moments if they are given;
// the result is a row of sums for each leaf.
ffi::Error TellLeaves(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t version,
                      int64_t given) {
  if (version != kVersion) return ffi::Error::InvalidArgument(kOtherVersion);
  const int64_t arrays = given & kMoments ? 5 : 3;
  const int64_t count = static_cast<int64_t>(args.size()) - 1, leaves = count / arrays;
  const auto array = [&args](int64_t i) { return *args.get<ffi::AnyBuffer>(static_cast<size_t>(i)); };
  if (count < arrays || count % arrays != 0 || rets.size() != 1)
    return ffi::Error::InvalidArgument("adamx: operands that are not those of leaves with these arrays");
  const ffi::AnyBuffer numbers = array(0), told = **rets.get<ffi::AnyBuffer>(0);
  const int64_t batches = static_cast<int64_t>(numbers.element_count()) / kNumbers;
  bool as_said = numbers.element_type() == ffi::F32 && told.element_type() == ffi::F32;
  as_said = as_said && static_cast<int64_t>(told.element_count()) == kSums * leaves * batches;
  for (int64_t i = 0; i < count; ++i) {
    const ffi::AnyBuffer first = array(1 + i / arrays * arrays), one = array(1 + i);
    as_said = as_said && one.element_type() == ffi::F32 && one.element_count() == first.element_count();
  }
  if (!as_said) return ffi::Error::InvalidArgument("adamx: arrays that are not float32, or not of their leaf's size");
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (int64_t leaf = 0; leaf < leaves; ++leaf) {
      int64_t next = 1 + leaf * arrays;
      Account account{};
      account.size = static_cast<int64_t>(array(next).element_count()) / batches;
      const auto part = [&] { return array(next++).typed_data<float>() + batch * account.size; };
      account.g = part();
      account.before = part();
      account.after = part();
      account.mu = given & kMoments ? part() : nullptr;
      account.nu = given & kMoments ? part() : nullptr;
      account.square = given & kSquare;
      std::memcpy(&account.numbers, numbers.typed_data<float>() + batch * kNumbers, sizeof(Numbers));
      Told(account, pool).Write(told.typed_data<float>() + (batch * leaves + leaf) * kSums);
    }
  }
  return ffi::Error::Success();
}

}  // namespace adamx

EXPORT XLA_FFI_Error* AdamxSums(XLA_FFI_CallFrame* frame) {
  static const auto* handler = xla::ffi::Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attr<int64_t>("version")
                                   .Attr<int64_t>("given")
                                   .To(adamx::TellLeaves)
                                   .release();
  return handler->Call(frame);
}

#endif
