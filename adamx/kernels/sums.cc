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

// The sums, in the order of the Python's `Sums`, which begins with the number of elements.
enum Added { kGradient, kUpdate, kWeight, kMoved, kRatio, kAdded };
enum Counted { kPulled, kAgainst, kStalled, kNonfinite, kDominated, kIdle, kCounted };
enum Largest { kStepMax, kRatioMax, kLargest };  // of bit patterns: sizes are in their order, and NaN above all
constexpr int kSums = 1 + kAdded + kCounted + kLargest;

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
