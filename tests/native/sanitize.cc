// Every rule, format and rounding of the native kernel, over odd, unaligned and empty leaves, for the sanitizers:
// `make sanitize`. Buffers are exactly as long as they must be, so that one element too many is found.

#define ADAMX_WITHOUT_XLA
#include "../../adamx/kernels/native.cc"

#include <cstdio>
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

int64_t Run(Rule rule, int flags, Decay decay, Rounding rounding, Format format, int64_t rows, int64_t row, bool narrow,
            int kind) {
  const int64_t n = rows * row, groups = rows * ((row + kGroup - 1) / kGroup);
  Array<float> g(n), p(n), dense[kSlots] = {Array<float>(n), Array<float>(n), Array<float>(n)};
  Array<uint16_t> g16(n), p16(n), half[kSlots] = {Array<uint16_t>(n), Array<uint16_t>(n), Array<uint16_t>(n)};
  Array<uint8_t> byte[kSlots] = {Array<uint8_t>(n), Array<uint8_t>(n), Array<uint8_t>(n)};
  Array<uint8_t> low[kSlots] = {Array<uint8_t>(groups), Array<uint8_t>(groups), Array<uint8_t>(groups)};
  Array<uint8_t> high[kSlots] = {Array<uint8_t>(groups), Array<uint8_t>(groups), Array<uint8_t>(groups)};
  Array<uint16_t> scale[kSlots] = {Array<uint16_t>(groups), Array<uint16_t>(groups), Array<uint16_t>(groups)};
  Array<uint16_t> residual(n);
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
  leaf.g = narrow ? static_cast<void*>(g16.data()) : g.data();
  leaf.p = narrow ? static_cast<void*>(p16.data()) : p.data();
  leaf.g_narrow = leaf.p_narrow = narrow;
  leaf.residual = residual.data();
  leaf.slot_count = rule == Rule::kAMSGrad ? 3 : rule == Rule::kLion || rule == Rule::kAdaGrad ? 1 : 2;
  for (int k = 0; k < leaf.slot_count; ++k) {
    const bool mean = rule == Rule::kLion || (k == 0 && rule <= Rule::kAdaMax) || (k == 1 && rule == Rule::kRMSProp);
    Slot& slot = leaf.slots[k];
    slot.format = format == Format::kLog && mean         ? Format::kRatio
                  : format == Format::kFloatCode && mean ? (k ? Format::kBFloat16 : Format::kDitheredMean)
                                                         : format;
    slot.unit = slot.format == Format::kRatio && rule <= Rule::kAdaMax ? Unit::kRoot : Unit::kNone;
    slot.code = slot.format == Format::kFloat ? static_cast<void*>(dense[k].data())
                : format == Format::kLog      ? static_cast<void*>(byte[k].data())
                                              : half[k].data();
    slot.low = low[k].data();
    slot.high = high[k].data();
    slot.scale = scale[k].data();
    slot.turn = k == 2 ? 8 : 16 * k;
  }
  for (uint32_t t = 1; t <= 3; ++t) {
    leaf.count = t * 0x7FFFFFFFu;
    StepBlocks(leaf, 0, BlockCount(leaf));
  }
  return n;
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
                for (int kind : {0, 1, 2, 3}) {
                  elements += Run(rule, flags, decay, rounding, format, shape[0], shape[1], narrow, kind);
                  ++steps;
                }
  std::printf("%lld leaves, %lld elements: nothing found\n", static_cast<long long>(steps),
              static_cast<long long>(elements));
}
