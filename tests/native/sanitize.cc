// Every rule, format, length of groups and rounding of the native kernels, over odd, unaligned and empty leaves, whole
// and in parts, for the sanitizers: `make sanitize`. Buffers are exactly as long as they must be, so that one element too
// many is found. A large leaf is stepped by several threads, which is what the thread sanitizer is for, and must end as
// one thread leaves it.

#include "../../adamx/kernels/cpu/step.h"
#include "../../adamx/kernels/cpu/sums.h"

#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

using namespace adamx;

namespace {

// `n` elements that begin one element off the allocation's alignment.
template <class T>
struct Array {
  explicit Array(int64_t n) : all(n + 1) {}
  T* data() { return all.data() + 1; }
  std::vector<T> all;
};

float Value(int64_t i, int kind) {
  switch (kind) {
    case 0:
      return std::sin(static_cast<float>(i));
    case 1:
      return 0.0f;
    case 2:
      return std::ldexp(1.0f, static_cast<int>(i % 250) - 125);
    default:
      return i % 7 ? -1.0f : i % 2 ? INFINITY : NAN;
  }
}

// What XLA's thread pool is to the kernel.
class Pool {
 public:
  explicit Pool(int64_t threads = 4) : number_(threads) {}
  ~Pool() { for (std::thread& thread : threads_) thread.join(); }
  int64_t num_threads() const { return number_; }
  void Schedule(std::function<void()> work) { threads_.emplace_back(std::move(work)); }

 private:
  const int64_t number_;
  std::vector<std::thread> threads_;
};

bool ThreadsAgree(bool coded) {
  const int64_t rows = 300, row = 1025, n = rows * row, groups = rows * ((row + kGroup - 1) / kGroup);
  std::vector<float> weights[2], dense[2];
  std::vector<uint8_t> codes[2], low[2], high[2];
  std::vector<float> g(n);
  for (int64_t i = 0; i < n; ++i) g[i] = Value(i, 0);
  for (int several : {0, 1}) {
    weights[several].assign(n, 1.0f);
    dense[several].assign(n, 0.0f);
    codes[several].assign(n, 0);
    low[several].assign(groups, 0);
    high[several].assign(groups, 0);
    Leaf leaf{};
    leaf.scalars = {1, 1e-2f, 1e-2f, 0.1f, {0.1f, 1}, {0.001f, 1}, 1, 1, 1, 1e-8f, 0, 0.999f, 0.9f, 1};
    leaf.rule = Rule::kRMSProp;
    leaf.decay = Decay::kShrink;
    leaf.size = n;
    leaf.row = row;
    leaf.g = g.data();
    leaf.p = weights[several].data();
    leaf.slot_count = 1;
    leaf.slots[0].format = coded ? Format::kLog : Format::kFloat;
    leaf.slots[0].code = coded ? static_cast<void*>(codes[several].data()) : dense[several].data();
    leaf.slots[0].low = low[several].data();
    leaf.slots[0].high = high[several].data();
    for (leaf.count = 1; leaf.count <= 3; ++leaf.count) {
      Pool pool;
      if (several) Step(leaf, pool);
      else StepBlocks(leaf, 0, BlockCount(leaf));
    }
  }
  return weights[0] == weights[1] && dense[0] == dense[1] && codes[0] == codes[1] && low[0] == low[1];
}

int64_t Run(Rule rule, int flags, Decay decay, Rounding rounding, Format format, int64_t rows, int64_t row, bool narrow,
            int kind, int length) {
  const int64_t n = rows * row, groups = rows * ((row + length - 1) / length);
  Array<float> g(n), p(n), dense[kSlots] = {Array<float>(n), Array<float>(n), Array<float>(n)};
  Array<uint16_t> g16(n), p16(n), half[kSlots] = {Array<uint16_t>(n), Array<uint16_t>(n), Array<uint16_t>(n)};
  Array<uint8_t> byte[kSlots] = {Array<uint8_t>(n), Array<uint8_t>(n), Array<uint8_t>(n)};
  Array<uint8_t> low[kSlots] = {Array<uint8_t>(groups), Array<uint8_t>(groups), Array<uint8_t>(groups)};
  Array<uint8_t> high[kSlots] = {Array<uint8_t>(groups), Array<uint8_t>(groups), Array<uint8_t>(groups)};
  Array<uint16_t> scale[kSlots] = {Array<uint16_t>(groups), Array<uint16_t>(groups), Array<uint16_t>(groups)};
  Array<uint16_t> rest16(n);
  Array<int8_t> rest8(n);
  for (int64_t i = 0; i < n; ++i) {
    g.data()[i] = Value(i, kind);
    p.data()[i] = Value(i + 1, kind % 3);
    g16.data()[i] = Narrowed(g.data()[i]);
    p16.data()[i] = Narrowed(p.data()[i]);
  }
  Leaf leaf{};
  leaf.scalars = {1, 1e-2f, 1e-2f, 0.1f, {0.1f, 1}, {0.001f, 1}, 0.1f, 0.19f, 0.001f, 1e-8f, 0, 0.999f, 0.9f, 1};
  leaf.rule = rule;
  leaf.flags = flags;
  leaf.decay = decay;
  leaf.rounding = rounding;
  leaf.size = n;
  leaf.row = row;
  const int64_t axes[] = {rows, 2 * row + 3, row, 1};  // of a part, among wider rows
  leaf.axes = axes;
  leaf.axis_count = kind % 2 ? 2 : 0;
  leaf.g = narrow ? static_cast<void*>(g16.data()) : g.data();
  leaf.p = narrow ? static_cast<void*>(p16.data()) : p.data();
  leaf.g_narrow = leaf.p_narrow = narrow;
  leaf.residual = rounding == Rounding::kSplit8 ? static_cast<void*>(rest8.data()) : rest16.data();
  leaf.slot_count = rule == Rule::kAMSGrad ? 3 : rule == Rule::kLion || rule == Rule::kAdaGrad ? 1 : 2;
  for (int k = 0; k < leaf.slot_count; ++k) {
    const bool mean = rule == Rule::kLion || (k == 0 && rule <= Rule::kAdaMax) || (k == 1 && rule == Rule::kRMSProp);
    Slot& slot = leaf.slots[k];
    slot.format = format == Format::kLog && mean         ? Format::kRatio
                  : format == Format::kFloatCode && mean ? (k ? Format::kBFloat16 : Format::kDitheredMean)
                                                         : format;
    slot.unit = slot.format != Format::kRatio || rule > Rule::kAdaMax ? Unit::kNone
                : rule == Rule::kAdaMax                              ? Unit::kItself
                                                                     : Unit::kRoot;
    slot.code = slot.format == Format::kFloat ? static_cast<void*>(dense[k].data())
                : slot.format >= Format::kLog ? static_cast<void*>(byte[k].data())
                                              : half[k].data();
    slot.low = low[k].data();
    slot.high = high[k].data();
    slot.scale = scale[k].data();
    slot.parts = kGroup / length;
    slot.turn = k == 2 ? 8 : 16 * k;
  }
  for (uint32_t t = 1; t <= 3; ++t) {
    leaf.count = t * 0x7FFFFFFFu;
    StepBlocks(leaf, 0, BlockCount(leaf));
  }
  return n;
}

// One leaf's sums by one thread and by several; false if a bit differs, or if one is not what there is to add up.
bool SumsAgree(int64_t n, bool moments, bool square, int kind) {
  Array<float> arrays[5] = {Array<float>(n), Array<float>(n), Array<float>(n), Array<float>(n), Array<float>(n)};
  for (int64_t i = 0; i < n; ++i)
    for (int k = 0; k < 5; ++k) arrays[k].data()[i] = Value(i + k, kind);
  Account account{};
  account.g = arrays[0].data();
  account.before = arrays[1].data();
  account.after = arrays[2].data();
  account.mu = moments ? arrays[3].data() : nullptr;
  account.nu = moments ? arrays[4].data() : nullptr;
  account.square = square;
  account.size = n;
  account.numbers = {0.5f, 2.0f, 1e-3f};
  float told[2][kSums];
  for (int several : {0, 1}) {
    Pool pool(several ? 4 : 1);
    Told(account, pool).Write(told[several]);
  }
  int64_t nonfinite = 0;
  for (int64_t i = 0; i < n; ++i) nonfinite += !std::isfinite(0.5f * Value(i, kind));
  return std::memcmp(told[0], told[1], sizeof told[0]) == 0 && told[0][0] == static_cast<float>(n) &&
         told[0][1 + kAdded + kNonfinite] == static_cast<float>(nonfinite);
}

}  // namespace

int main() {
  int64_t steps = 0, elements = 0;
  const int64_t shapes[][2] = {{0, 5}, {3, 0}, {1, 1}, {1, 127}, {3, 129}, {2, 512}, {5, 1025}};
  for (Rule rule : {Rule::kAdam, Rule::kAMSGrad, Rule::kAdaMax, Rule::kLion, Rule::kRMSProp, Rule::kAdaGrad})
    for (int flags : {0, 1, 2, 4, 5})
      for (Decay decay : {Decay::kNone, Decay::kShrink, Decay::kL2, Decay::kCautious, Decay::kProximal})
        for (Rounding rounding : {Rounding::kNearest, Rounding::kStochastic, Rounding::kKahan, Rounding::kSplit8,
                                  Rounding::kSplit16})
          for (Format format : {Format::kFloat, Format::kFloatCode, Format::kLog})
            for (const auto& shape : shapes)
              for (bool narrow : {false, true})
                for (int kind : {0, 1, 2, 3})
                  for (int length = format == Format::kLog ? kGroup / 4 : kGroup; length <= kGroup; length *= 2) {
                    elements += Run(rule, flags, decay, rounding, format, shape[0], shape[1], narrow, kind, length);
                    ++steps;
                  }
  for (bool coded : {false, true})
    if (!ThreadsAgree(coded)) return std::printf("several threads step otherwise than one\n"), 1;
  for (int64_t n : {0, 1, 15, 17, 1024, 1039, 200003})
    for (int given : {0, 1, 3})
      for (int kind : {0, 1, 2, 3})
        if (!SumsAgree(n, given & kMoments, given & kSquare, kind))
          return std::printf("several threads tell otherwise than one\n"), 1;
  std::printf("%lld leaves, %lld elements: nothing found\n", static_cast<long long>(steps),
              static_cast<long long>(elements));
}
