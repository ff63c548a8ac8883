// One step of Adam's family on one leaf, in one pass over memory.
//
// A leaf is cut into blocks that fit the first-level cache. A block is widened to float, moved by its rule, and narrowed
// again, one stage after the other; float arrays are worked on where they lie, and a leaf that has no others in one run.
// Every stage computes what the Python does, operation by operation, products and sums fused as XLA fuses them.
//
// The core knows nothing of XLA; the binding is at the end (left out with ADAMX_WITHOUT_XLA, for the sanitizers).

#include <cmath>
#include <limits>

#include "native.h"

namespace adamx {

enum class Rule { kAdam, kAMSGrad, kAdaMax, kLion, kRMSProp, kAdaGrad };
enum class Decay { kNone, kShrink, kL2, kCautious, kProximal };
enum class Rounding { kNearest, kStochastic, kKahan, kSplit8, kSplit16 };
enum class Format { kFloat, kBFloat16, kDitheredMean, kFloatCode, kLog, kRatio };
enum class Unit { kNone, kRoot, kItself };
enum Flags { kNesterov = 1, kRaw = 2, kMomentum = 4 };

struct Average {     // old + weight (new - old), or new + weight (old - new)
  float weight;
  float from_old;    // 1 or 0
};

struct Scalars {
  float grad_scale, learning_rate, shrink, weight_decay;
  Average first, second;
  float first_correction, next_correction, second_correction;
  float eps, eps_root, decay_rate, momentum, step_size;
};
constexpr int kScalars = sizeof(Scalars) / sizeof(float);

constexpr int kGroup = 128;
constexpr int kSpan = 40;
constexpr int kBlock = 512;
constexpr int kGroups = kBlock / kGroup;
constexpr int kSlots = 3;
constexpr int kNu = 1;  // the slot that units are made of
constexpr int32_t kOctave = 1 << 23;
constexpr int32_t kQuarter = kOctave / 4;
constexpr uint32_t kInfinity = 0x7F800000u;
constexpr uint32_t kQuiet = 0x40u;  // makes a bfloat16's NaN of what would become infinity
constexpr uint32_t kGolden = 0x9E3779B9u;

struct Slot {
  Format format = Format::kFloat;
  Unit unit = Unit::kNone;
  void* code = nullptr;
  uint8_t* low = nullptr;
  uint8_t* high = nullptr;
  uint16_t* scale = nullptr;
  int turn = 0;
};

struct Leaf {
  Scalars scalars;
  Rule rule;
  int flags;
  Decay decay;
  Rounding rounding;
  int64_t size, row;  // elements in all, and along the last axis
  const void* g;
  bool g_narrow;      // bfloat16
  void* p;
  bool p_narrow;
  void* residual;
  uint32_t count, key;
  int turn;  // of the weight's bits; each slot has its own
  int slot_count;
  Slot slots[kSlots];
};

// Bits

INLINE float Widened(uint32_t x) { return Float(static_cast<int32_t>(x << 16)); }

INLINE uint16_t Narrowed(float x) {  // to the nearest bfloat16, ties to even
  const uint32_t raw = static_cast<uint32_t>(Bits(x));
  const uint32_t rounded = (raw + 0x7FFFu + ((raw >> 16) & 1u)) >> 16;
  const uint32_t nan = (raw >> 16) | 0x40u;
  return static_cast<uint16_t>((raw & 0x7FFFFFFFu) > static_cast<uint32_t>(kInfinite) ? nan : rounded);
}

INLINE uint32_t Mixed(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}

// A purpose's random bits: an element's hash, turned, to which the step is added.

struct Noise {
  const uint32_t* RESTRICT hashes;
  int turn;
  uint32_t weyl;     // the step's number times the golden ratio
  uint32_t uniform;  // and it, mixed
};

INLINE uint32_t Turned(uint32_t hash, int turn) { return (hash << turn) | (hash >> (-turn & 31)); }
INLINE uint32_t Weyl(Noise noise, int i) { return Turned(noise.hashes[i], noise.turn) + noise.weyl; }
INLINE uint32_t Uniform(Noise noise, int i) {
  return Mixed(Turned(noise.hashes[i], noise.turn) + noise.uniform);
}

INLINE float UnitInterval(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f; }

// Arithmetic

INLINE float Averaged(float old, float now, Average a) {
  const bool from_old = a.from_old != 0;
  const float base = from_old ? old : now, other = from_old ? now : old;
  return base + a.weight * (other - base);
}

INLINE float DivNoNan(float x, float y) { return y == 0 ? 0 * x : x / y; }
INLINE float Larger(float x, float y) { return (x > y) | (x != x) ? x : y; }
INLINE float Sign(float x) { return static_cast<float>((x > 0) - (x < 0)) + 0 * x; }

// Slots

INLINE void DecodeLog(const uint8_t* RESTRICT code, int32_t low, int32_t high, float* RESTRICT x, int n) {
  const int32_t octaves = high - low, last = octaves * kOctave - 1;
  for (int i = 0; i < n; ++i) {
    const int32_t step = code[i];
    const float place = static_cast<float>((step - 1) * octaves) * (kOctave / 254.0f);
    x[i] = step == 0 ? 0.0f : Float(low * kOctave + std::min(static_cast<int32_t>(place), last));
  }
  if (low == 255) std::fill(x, x + n, std::numeric_limits<float>::quiet_NaN());
}

// Groups come one after the other, and of all of them the ends first: finding one's waits for the last of its elements.

INLINE void EncodeLog(const float* RESTRICT x, uint8_t* RESTRICT code, uint8_t* RESTRICT low_out,
                      uint8_t* RESTRICT high_out, Noise noise, int n) {
  int32_t lows[kGroups], highs[kGroups];
  for (int at = 0, k = 0; at < n; at += kGroup, ++k) {
    int32_t low = 255, high = 1;
    for (int i = at; i < std::min(at + kGroup, n); ++i) {
      const int32_t exponent = (Bits(x[i]) & 0x7FFFFFFF) >> 23;
      low = std::min(low, exponent == 0 ? 255 : exponent);
      high = std::max(high, exponent);
    }
    highs[k] = std::min(high + 1, 256);
    lows[k] = std::max(std::min(low, highs[k] - 1), highs[k] - kSpan);
  }
  for (int at = 0, k = 0; at < n; at += kGroup, ++k) {
    const int32_t low = lows[k], high = highs[k], base = low * kOctave;
    const bool broken = high == 256;
    const int32_t least = broken ? 0 : kOctave;  // what is smaller is zero
    const float steps = (254.0f / kOctave) / static_cast<float>(high - low);
    for (int i = at; i < std::min(at + kGroup, n); ++i) {
      const int32_t raw = Bits(x[i]) & 0x7FFFFFFF;
      const float place = static_cast<float>(raw - base) * steps;
      const float dithered = place + UnitInterval(Weyl(noise, i));
      const int32_t whole = 1 + static_cast<int32_t>(std::min(std::max(dithered, 0.0f), 254.5f));
      code[i] = static_cast<uint8_t>(raw < least ? 0 : whole);
    }
    low_out[k] = static_cast<uint8_t>(broken ? 255 : low);
    high_out[k] = static_cast<uint8_t>(high);
  }
}

INLINE void DecodeRatio(const int8_t* RESTRICT code, float scale, const float* RESTRICT unit, float* RESTRICT x,
                        int n) {
  for (int i = 0; i < n; ++i) {
    const float place = static_cast<float>(static_cast<int32_t>(code[i]));
    x[i] = place / (254.0f - std::fabs(place)) * scale;
  }
  if (unit != nullptr)
    for (int i = 0; i < n; ++i) x[i] *= unit[i];
}

INLINE void EncodeRatio(float* RESTRICT x, int8_t* RESTRICT code, uint16_t* RESTRICT scale_out,
                        const float* RESTRICT unit, Noise noise, int n) {
  if (unit != nullptr)
    for (int i = 0; i < n; ++i) x[i] = DivNoNan(x[i], unit[i]);
  int32_t tops[kGroups];  // bit patterns, which NaN's exceed all others
  for (int at = 0, k = 0; at < n; at += kGroup, ++k) {
    int32_t top = 0;
    for (int i = at; i < std::min(at + kGroup, n); ++i) top = std::max(top, Bits(x[i]) & 0x7FFFFFFF);
    tops[k] = top < kInfinite ? std::min((top + kQuarter - 1) & -kQuarter, kInfinite - kQuarter) : top;
  }
  for (int at = 0, k = 0; at < n; at += kGroup, ++k) {
    const float scale = tops[k] == 0 ? 1.0f : Float(tops[k]);  // beside zeros any will do
    for (int i = at; i < std::min(at + kGroup, n); ++i) {
      const float place = 254.0f * (x[i] / (scale + std::fabs(x[i])));
      const float dithered = place + UnitInterval(Weyl(noise, i));
      const float bounded = std::min(std::max(dithered, -127.0f), 127.5f) + 128.0f;  // cut off, it is rounded down
      code[i] = static_cast<int8_t>(place != place ? 127 : static_cast<int32_t>(bounded) - 128);
    }
    scale_out[k] = Narrowed(Float(tops[k]));
  }
}

INLINE void EncodeMean(const float* RESTRICT x, uint16_t* RESTRICT code, Noise noise, int n) {
  for (int i = 0; i < n; ++i) {
    const uint32_t raw = static_cast<uint32_t>(Bits(x[i])), size = raw & 0x7FFFFFFFu;
    const uint32_t down = raw >> 16, up = (raw + (Weyl(noise, i) >> 16)) >> 16;
    const uint32_t kept = (size >= kInfinity) | ((up & 0x7F80u) == 0x7F80u) ? down : up;
    code[i] = static_cast<uint16_t>(size > kInfinity ? kept | kQuiet : kept);
  }
}

INLINE void EncodeFloatCode(const float* RESTRICT x, uint16_t* RESTRICT code, Noise noise, int n) {
  for (int i = 0; i < n; ++i) {
    const uint32_t raw = static_cast<uint32_t>(Bits(x[i])) & 0x7FFFFFFFu;
    const uint32_t down = raw >> 15, up = (raw + (Weyl(noise, i) >> 17)) >> 15;
    const uint32_t kept = up >= 0xFF00u ? down : up;
    code[i] = static_cast<uint16_t>(raw > kInfinity ? 0xFFFFu : kept);
  }
}

// A part of a row: where it begins, and what is worked on there

struct Block {
  int64_t at;      // the number of its first element
  int64_t group;   // of its first group
  int n;
  float* g;
  float* p;
  float* unit;
  uint32_t* hashes;
  float* slots[kSlots];
};

INLINE Noise NoiseOf(const Leaf& leaf, const Block& b, int turn) {
  return {b.hashes, turn, leaf.count * kGolden, Mixed(leaf.count ^ kGolden)};
}

INLINE void Hash(const Leaf& leaf, const Block& b) {
  const uint32_t index = static_cast<uint32_t>(b.at);
  for (int i = 0; i < b.n; ++i) b.hashes[i] = Mixed((index + i) ^ leaf.key);
}

INLINE const float* UnitOf(const Slot& slot, const Block& b) {
  if (slot.unit == Unit::kNone) return nullptr;
  const float* nu = b.slots[kNu];
  if (slot.unit == Unit::kItself) return nu;
  for (int i = 0; i < b.n; ++i) b.unit[i] = std::sqrt(nu[i]);
  return b.unit;
}

INLINE void Decode(const Slot& slot, const Block& b, float* x) {
  switch (slot.format) {
    case Format::kFloat:
      return;
    case Format::kBFloat16:
    case Format::kDitheredMean: {
      const uint16_t* code = static_cast<const uint16_t*>(slot.code) + b.at;
      for (int i = 0; i < b.n; ++i) x[i] = Widened(code[i]);
      return;
    }
    case Format::kFloatCode: {
      const uint16_t* code = static_cast<const uint16_t*>(slot.code) + b.at;
      for (int i = 0; i < b.n; ++i) x[i] = Float(static_cast<int32_t>(static_cast<uint32_t>(code[i]) << 15));
      return;
    }
    case Format::kLog:
      for (int i = 0, k = 0; i < b.n; i += kGroup, ++k)
        DecodeLog(static_cast<const uint8_t*>(slot.code) + b.at + i, slot.low[b.group + k], slot.high[b.group + k],
                  x + i, std::min(kGroup, b.n - i));
      return;
    case Format::kRatio: {
      const float* unit = UnitOf(slot, b);
      for (int i = 0, k = 0; i < b.n; i += kGroup, ++k)
        DecodeRatio(static_cast<const int8_t*>(slot.code) + b.at + i, Widened(slot.scale[b.group + k]),
                    unit == nullptr ? nullptr : unit + i, x + i, std::min(kGroup, b.n - i));
      return;
    }
  }
}

INLINE void Encode(const Slot& slot, const Block& b, float* x, Noise noise) {
  switch (slot.format) {
    case Format::kFloat:
      return;
    case Format::kBFloat16: {
      uint16_t* code = static_cast<uint16_t*>(slot.code) + b.at;
      for (int i = 0; i < b.n; ++i) code[i] = Narrowed(x[i]);
      return;
    }
    case Format::kDitheredMean:
      EncodeMean(x, static_cast<uint16_t*>(slot.code) + b.at, noise, b.n);
      return;
    case Format::kFloatCode:
      EncodeFloatCode(x, static_cast<uint16_t*>(slot.code) + b.at, noise, b.n);
      return;
    case Format::kLog:
      EncodeLog(x, static_cast<uint8_t*>(slot.code) + b.at, slot.low + b.group, slot.high + b.group, noise, b.n);
      return;
    case Format::kRatio:
      EncodeRatio(x, static_cast<int8_t*>(slot.code) + b.at, slot.scale + b.group, UnitOf(slot, b), noise, b.n);
      return;
  }
}

// Rules: what one element's slots become, and its direction

INLINE float Root(const Scalars& s, float square) { return std::sqrt(square + s.eps_root) + s.eps; }

template <bool kNesterovs>
struct Adam {
  static constexpr int slots = 2;
  static INLINE float Direction(const Scalars& s, float g, float& mu, float& nu, float&) {
    mu = Averaged(mu, g, s.first);
    nu = Averaged(nu, g * g, s.second);
    const float mean =
        kNesterovs ? Averaged(mu / s.next_correction, g / s.first_correction, s.first) : mu / s.first_correction;
    return DivNoNan(mean, Root(s, nu / s.second_correction));
  }
};

template <bool kRaws>
struct AMSGrad {
  static constexpr int slots = 3;
  static INLINE float Direction(const Scalars& s, float g, float& mu, float& nu, float& nu_max) {
    mu = Averaged(mu, g, s.first);
    nu = Averaged(nu, g * g, s.second);
    nu_max = Larger(nu_max, kRaws ? nu : nu / s.second_correction);
    return DivNoNan(mu / s.first_correction, Root(s, kRaws ? nu_max / s.second_correction : nu_max));
  }
};

struct AdaMax {
  static constexpr int slots = 2;
  static INLINE float Direction(const Scalars& s, float g, float& mu, float& nu, float&) {
    mu = Averaged(mu, g, s.first);
    nu = Larger(s.decay_rate * nu, std::fabs(g) + s.eps_root);
    return DivNoNan(mu / s.first_correction, nu + s.eps);
  }
};

struct Lion {
  static constexpr int slots = 1;
  static INLINE float Direction(const Scalars& s, float g, float& mu, float&, float&) {
    const float direction = Sign(Averaged(mu, g, s.first));
    mu = Averaged(mu, g, s.second);
    return direction;
  }
};

template <bool kMomenta, bool kNesterovs>
struct RMSProp {
  static constexpr int slots = kMomenta ? 2 : 1;
  static INLINE float Direction(const Scalars& s, float g, float& nu, float& trace, float&) {
    nu = Averaged(nu, g * g, s.second);
    const float direction = s.step_size * DivNoNan(g, Root(s, nu / s.second_correction));
    if (!kMomenta) return direction;
    trace = s.momentum * trace + direction;
    return kNesterovs ? direction + s.momentum * trace : trace;
  }
};

struct AdaGrad {
  static constexpr int slots = 1;
  static INLINE float Direction(const Scalars& s, float g, float& nu, float&, float&) {
    nu = nu + g * g;
    return DivNoNan(g, Root(s, nu));
  }
};

// Weights: what one becomes when its rule says `u`

template <Decay kDecay>
INLINE float Descended(const Scalars& s, float p, float u) {
  const float change = s.learning_rate * u;
  if (kDecay == Decay::kShrink) return p - (change + s.shrink * (s.weight_decay * p));
  if (kDecay == Decay::kCautious) return p - (change + (u * p >= 0 ? s.shrink * (s.weight_decay * p) : 0.0f));
  if (kDecay == Decay::kProximal) return p - (change + s.shrink * (p - change));
  return p - change;
}

// `n` elements of everything in float, in place

struct Floats {
  const float* g;
  float* p;
  float* slots[kSlots];
};

template <class kRule, Decay kDecay>
INLINE void Advance(const Scalars& scalars, const Floats& floats, int64_t n) {
  const Scalars s = scalars;
  const float* RESTRICT g = floats.g;
  float* RESTRICT p = floats.p;
  float* RESTRICT x = floats.slots[0];
  float* RESTRICT y = floats.slots[1];
  float* RESTRICT z = floats.slots[2];
  const bool scaled = s.grad_scale != 1;
  for (int64_t i = 0; i < n; ++i) {
    float gradient = scaled ? g[i] * s.grad_scale : g[i];
    if (kDecay == Decay::kL2) gradient += s.weight_decay * p[i];
    float first = x[i], second = 0, third = 0;
    if constexpr (kRule::slots > 1) second = y[i];
    if constexpr (kRule::slots > 2) third = z[i];
    const float direction = kRule::Direction(s, gradient, first, second, third);
    x[i] = first;
    if constexpr (kRule::slots > 1) y[i] = second;
    if constexpr (kRule::slots > 2) z[i] = third;
    p[i] = Descended<kDecay>(s, p[i], direction);
  }
}

template <class kRule>
INLINE void AdvanceBy(const Leaf& leaf, const Floats& floats, int64_t n) {
  switch (leaf.decay) {
    case Decay::kNone:
      return Advance<kRule, Decay::kNone>(leaf.scalars, floats, n);
    case Decay::kShrink:
      return Advance<kRule, Decay::kShrink>(leaf.scalars, floats, n);
    case Decay::kL2:
      return Advance<kRule, Decay::kL2>(leaf.scalars, floats, n);
    case Decay::kCautious:
      return Advance<kRule, Decay::kCautious>(leaf.scalars, floats, n);
    case Decay::kProximal:
      return Advance<kRule, Decay::kProximal>(leaf.scalars, floats, n);
  }
}

// One function for each rule: compilers take far longer over one that has them all, for every machine again.

FOR_EACH_MACHINE void AdvanceAdam(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<Adam<false>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceNAdam(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<Adam<true>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceAMSGrad(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<AMSGrad<false>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceRawAMSGrad(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<AMSGrad<true>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceAdaMax(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<AdaMax>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceLion(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<Lion>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceRMSProp(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<RMSProp<false, false>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceMomentumRMSProp(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<RMSProp<true, false>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceNesterovRMSProp(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<RMSProp<true, true>>(leaf, floats, n);
}

FOR_EACH_MACHINE void AdvanceAdaGrad(const Leaf& leaf, const Floats& floats, int64_t n) {
  return AdvanceBy<AdaGrad>(leaf, floats, n);
}

inline void AdvanceLeaf(const Leaf& leaf, const Floats& floats, int64_t n) {
  const bool nesterov = leaf.flags & kNesterov, raw = leaf.flags & kRaw, momentum = leaf.flags & kMomentum;
  switch (leaf.rule) {
    case Rule::kAdam:
      return nesterov ? AdvanceNAdam(leaf, floats, n) : AdvanceAdam(leaf, floats, n);
    case Rule::kAMSGrad:
      return raw ? AdvanceRawAMSGrad(leaf, floats, n) : AdvanceAMSGrad(leaf, floats, n);
    case Rule::kAdaMax:
      return AdvanceAdaMax(leaf, floats, n);
    case Rule::kLion:
      return AdvanceLion(leaf, floats, n);
    case Rule::kRMSProp:
      if (!momentum) return AdvanceRMSProp(leaf, floats, n);
      return nesterov ? AdvanceNesterovRMSProp(leaf, floats, n) : AdvanceMomentumRMSProp(leaf, floats, n);
    case Rule::kAdaGrad:
      return AdvanceAdaGrad(leaf, floats, n);
  }
}

INLINE uint32_t NearestFinite(float x) {  // to the nearest bfloat16 of those that are finite, if `x` is
  const uint32_t raw = static_cast<uint32_t>(Bits(x)), size = raw & 0x7FFFFFFFu;
  const uint32_t near = std::min((size + 0x7FFFu + ((size >> 16) & 1u)) >> 16, 0x7F7Fu);
  const uint32_t other = (size >> 16) | (size > kInfinity ? kQuiet : 0u);
  return (size < kInfinity ? near : other) | ((raw >> 16) & 0x8000u);
}

INLINE uint32_t Stochastic(float master, uint32_t bits) {
  const uint32_t near = NearestFinite(master);
  const float error = master - Widened(near);
  const int32_t size = static_cast<int32_t>(near & 0x7FFFu), ordered = near & 0x8000u ? -size : size;
  const int32_t moved = ordered + (error > 0) - (error < 0);
  const uint32_t other = static_cast<uint32_t>(moved < 0 ? (-moved | 0x8000) : moved);
  const float gap = std::fabs(Widened(other) - Widened(near));
  const bool cross = UnitInterval(bits) * gap < std::fabs(error);
  return cross & Finite(Widened(other)) ? other : near;
}

INLINE float Master(uint16_t p, int32_t code, int32_t unit) {
  const uint32_t raw = static_cast<uint32_t>(p) << 16;
  const int32_t size = static_cast<int32_t>(raw & 0x7FFFFFFFu);
  const int32_t moved = std::min(std::max(size + code * unit, 0), kInfinite - 1);
  return Float(static_cast<int32_t>((raw & 0x80000000u) | static_cast<uint32_t>(size >= kInfinite ? size : moved)));
}

// What is left of `master` beside the bfloat16 that is kept, in bit patterns; 0 beside what is not finite.

INLINE int32_t Rest(float master, uint32_t kept) {
  const int32_t size = Bits(master) & 0x7FFFFFFF;
  return size < kInfinite ? size - static_cast<int32_t>((kept & 0x7FFFu) << 16) : 0;
}

INLINE int32_t ExactResidual(float master, uint32_t kept) {
  return std::min(std::max(Rest(master, kept), -32768), 32767);
}

INLINE int32_t DitheredResidual(float master, uint32_t kept, uint32_t bits) {
  const int32_t up = (Rest(master, kept) + static_cast<int32_t>(bits >> 24)) >> 8;
  return std::min(std::max(up, -128), 127);
}

INLINE void LoadWeights(const Leaf& leaf, const Block& b) {
  if (!leaf.p_narrow) return;
  const uint16_t* RESTRICT p = static_cast<const uint16_t*>(leaf.p) + b.at;
  float* RESTRICT x = b.p;
  switch (leaf.rounding) {
    case Rounding::kNearest:
    case Rounding::kStochastic:
      for (int i = 0; i < b.n; ++i) x[i] = Widened(p[i]);
      return;
    case Rounding::kKahan: {
      const uint16_t* RESTRICT lost = static_cast<const uint16_t*>(leaf.residual) + b.at;
      for (int i = 0; i < b.n; ++i) x[i] = Widened(p[i]) + Widened(lost[i]);
      return;
    }
    case Rounding::kSplit8: {
      const int8_t* RESTRICT code = static_cast<const int8_t*>(leaf.residual) + b.at;
      for (int i = 0; i < b.n; ++i) x[i] = Master(p[i], code[i], 256);
      return;
    }
    case Rounding::kSplit16: {
      const int16_t* RESTRICT code = static_cast<const int16_t*>(leaf.residual) + b.at;
      for (int i = 0; i < b.n; ++i) x[i] = Master(p[i], code[i], 1);
      return;
    }
  }
}

INLINE void StoreWeights(const Leaf& leaf, const Block& b) {
  if (!leaf.p_narrow) return;
  uint16_t* RESTRICT p = static_cast<uint16_t*>(leaf.p) + b.at;
  const float* RESTRICT x = b.p;
  const Noise noise = NoiseOf(leaf, b, leaf.turn);
  if (leaf.rounding == Rounding::kNearest) {
    for (int i = 0; i < b.n; ++i) p[i] = Narrowed(x[i]);
    return;
  }
  if (leaf.rounding == Rounding::kStochastic) {
    for (int i = 0; i < b.n; ++i) p[i] = static_cast<uint16_t>(Stochastic(x[i], Uniform(noise, i)));
    return;
  }
  uint32_t kept[kBlock];  // once more, for loops that write one width only
  for (int i = 0; i < b.n; ++i) {
    kept[i] = NearestFinite(x[i]);
    p[i] = static_cast<uint16_t>(kept[i]);
  }
  if (leaf.rounding == Rounding::kKahan) {
    uint16_t* RESTRICT lost = static_cast<uint16_t*>(leaf.residual) + b.at;
    for (int i = 0; i < b.n; ++i) {
      const float rest = Finite(x[i]) ? x[i] - Widened(kept[i]) : 0.0f;
      lost[i] = static_cast<uint16_t>(Stochastic(rest, Uniform(noise, i)));
    }
  } else if (leaf.rounding == Rounding::kSplit8) {
    int8_t* RESTRICT code = static_cast<int8_t*>(leaf.residual) + b.at;
    for (int i = 0; i < b.n; ++i) code[i] = static_cast<int8_t>(DitheredResidual(x[i], kept[i], Weyl(noise, i)));
  } else {
    int16_t* RESTRICT code = static_cast<int16_t*>(leaf.residual) + b.at;
    for (int i = 0; i < b.n; ++i) code[i] = static_cast<int16_t>(ExactResidual(x[i], kept[i]));
  }
}

INLINE void LoadGradients(const Leaf& leaf, const Block& b) {
  if (!leaf.g_narrow) return;
  const uint16_t* RESTRICT g = static_cast<const uint16_t*>(leaf.g) + b.at;
  float* RESTRICT x = b.g;
  for (int i = 0; i < b.n; ++i) x[i] = Widened(g[i]);
}

// Blocks `first` to `last` of a leaf

template <class kTest>
INLINE bool Any(const Leaf& leaf, kTest test) {
  for (int k = 0; k < leaf.slot_count; ++k)
    if (test(leaf.slots[k].format)) return true;
  return false;
}

INLINE bool Grouped(const Leaf& leaf) {
  return Any(leaf, [](Format format) { return format >= Format::kLog; });
}

INLINE bool Random(const Leaf& leaf) {
  const bool coded = leaf.p_narrow && leaf.rounding != Rounding::kNearest && leaf.rounding != Rounding::kSplit16;
  return coded || Any(leaf, [](Format format) { return format >= Format::kDitheredMean; });
}

INLINE bool AllFloat(const Leaf& leaf) {
  return !leaf.g_narrow && !leaf.p_narrow && !Any(leaf, [](Format format) { return format != Format::kFloat; });
}

// Rows, each cut into blocks of one length, in whole groups; the last may be shorter. Without groups all is one row.

struct Cut {
  int64_t row, blocks, length;  // of a row, in it, of a block
};

inline Cut CutOf(const Leaf& leaf) {
  const int64_t row = Grouped(leaf) ? leaf.row : leaf.size;
  const int64_t blocks = (row + kBlock - 1) / kBlock, share = blocks == 0 ? 0 : (row + blocks - 1) / blocks;
  return {row, blocks, (share + kGroup - 1) / kGroup * kGroup};
}

inline int64_t BlockCount(const Leaf& leaf) {
  const Cut cut = CutOf(leaf);
  return cut.row == 0 ? 0 : leaf.size / cut.row * cut.blocks;
}

// The next block, so that it is there when its turn comes: the hardware's own guesses end with each array's part. One
// array before each stage, as all at once would wait for each other.

template <int kWritten>
INLINE void Fetch(const void* array, int64_t first, int64_t count, int64_t bytes) {
  const char* at = static_cast<const char*>(array) + first * bytes;
  for (int64_t i = 0; i < count * bytes; i += 64) PREFETCH(at + i, kWritten);
}

INLINE int64_t BytesOf(Format format) { return format == Format::kFloat ? 4 : format >= Format::kLog ? 1 : 2; }

inline void StepFloats(const Leaf& leaf, int64_t first, int64_t last) {  // in one run over memory
  const int64_t length = CutOf(leaf).length, begin = first * length, end = std::min(last * length, leaf.size);
  if (begin >= end) return;
  Floats floats{static_cast<const float*>(leaf.g) + begin, static_cast<float*>(leaf.p) + begin, {}};
  for (int j = 0; j < leaf.slot_count; ++j) floats.slots[j] = static_cast<float*>(leaf.slots[j].code) + begin;
  AdvanceLeaf(leaf, floats, end - begin);
}

FOR_EACH_MACHINE void StepCodes(const Leaf& leaf, int64_t first, int64_t last) {
  const Cut cut = CutOf(leaf);
  alignas(64) float g[kBlock], p[kBlock], unit[kBlock], slots[kSlots][kBlock];
  alignas(64) uint32_t hashes[kBlock];
  const int64_t groups = (cut.row + kGroup - 1) / kGroup;
  for (int64_t k = first; k < last; ++k) {
    const int64_t line = k / cut.blocks, column = (k - line * cut.blocks) * cut.length;
    Block b;
    b.at = line * cut.row + column;
    b.group = line * groups + column / kGroup;
    b.n = static_cast<int>(std::min(cut.length, cut.row - column));
    b.unit = unit;
    b.hashes = hashes;
    b.g = leaf.g_narrow ? g : const_cast<float*>(static_cast<const float*>(leaf.g)) + b.at;
    b.p = leaf.p_narrow ? p : static_cast<float*>(leaf.p) + b.at;
    for (int j = 0; j < kSlots; ++j) {
      const bool lies = j < leaf.slot_count && leaf.slots[j].format == Format::kFloat;
      b.slots[j] = lies ? static_cast<float*>(leaf.slots[j].code) + b.at : slots[j];
    }
    const int64_t next = b.at + b.n, count = k + 1 < last ? cut.length : 0;
    Fetch<0>(leaf.g, next, count, leaf.g_narrow ? 2 : 4);
    LoadWeights(leaf, b);
    LoadGradients(leaf, b);
    for (bool measured : {false, true})
      for (int j = 0; j < leaf.slot_count; ++j)
        if ((leaf.slots[j].unit != Unit::kNone) == measured) Decode(leaf.slots[j], b, b.slots[j]);
    Fetch<1>(leaf.p, next, count, leaf.p_narrow ? 2 : 4);
    AdvanceLeaf(leaf, {b.g, b.p, {b.slots[0], b.slots[1], b.slots[2]}}, b.n);
    if (Random(leaf)) Hash(leaf, b);
    if (leaf.residual != nullptr) Fetch<1>(leaf.residual, next, count, leaf.rounding == Rounding::kSplit8 ? 1 : 2);
    StoreWeights(leaf, b);
    for (int j = 0; j < leaf.slot_count; ++j) {
      const Slot& slot = leaf.slots[j];
      Fetch<1>(slot.code, next, count, BytesOf(slot.format));
      Encode(slot, b, b.slots[j], NoiseOf(leaf, b, slot.turn));
    }
  }
}

inline void StepBlocks(const Leaf& leaf, int64_t first, int64_t last) {
  return AllFloat(leaf) ? StepFloats(leaf, first, last) : StepCodes(leaf, first, last);
}

template <class Pool>
void Step(const Leaf& leaf, Pool& pool) {
  // Eight parts for each thread, of 8,192 to half a million elements: long enough for steady streams from memory.
  constexpr int64_t least = 8192 / kBlock, most = 524288 / kBlock;
  const int64_t blocks = BlockCount(leaf), threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t part = std::min(std::max(blocks / (8 * threads), least), most);
  InParts((blocks + part - 1) / part, pool,
          [&leaf, part, blocks](int64_t i) { StepBlocks(leaf, i * part, std::min((i + 1) * part, blocks)); });
}

}  // namespace adamx

#ifndef ADAMX_WITHOUT_XLA

#include "xla/ffi/api/ffi.h"

namespace adamx {

namespace ffi = xla::ffi;

template <class T>
T* Part(const ffi::AnyBuffer& buffer, int64_t batch, int64_t batches) {
  return static_cast<T*>(buffer.untyped_data()) + batch * (static_cast<int64_t>(buffer.element_count()) / batches);
}

inline void* Part(const ffi::AnyBuffer& buffer, int64_t batch, int64_t batches) {
  return Part<char>(buffer, 0, 1) + batch * (static_cast<int64_t>(buffer.size_bytes()) / batches);
}

// What is changed in place, in order: operands from `in`, results from the first. One that is not as it should be is
// remembered, and nothing may be written then.
class InPlace {
 public:
  InPlace(ffi::RemainingArgs args, ffi::RemainingRets rets, size_t in) : args_(args), rets_(rets), in_(in) {}

  ffi::AnyBuffer Next(ffi::DataType type, int64_t count) {
    const ffi::AnyBuffer in = *args_.get<ffi::AnyBuffer>(in_++), out = **rets_.get<ffi::AnyBuffer>(out_++);
    as_said_ = as_said_ && Is(in, type, count) && Is(out, type, count);
    if (as_said_ && in.untyped_data() != out.untyped_data())
      std::memcpy(out.untyped_data(), in.untyped_data(), in.size_bytes());
    return out;
  }

  ffi::AnyBuffer Peek() const { return *args_.get<ffi::AnyBuffer>(in_); }
  bool AsSaid() const { return as_said_; }

  static bool Is(const ffi::AnyBuffer& buffer, ffi::DataType type, int64_t count) {
    return buffer.element_type() == type && static_cast<int64_t>(buffer.element_count()) == count;
  }

 private:
  ffi::RemainingArgs args_;
  ffi::RemainingRets rets_;
  size_t in_, out_ = 0;
  bool as_said_ = true;
};

inline bool IsNarrow(const ffi::AnyBuffer& buffer) { return buffer.element_type() == ffi::BF16; }
inline ffi::DataType FloatType(bool narrow) { return narrow ? ffi::BF16 : ffi::F32; }

inline ffi::DataType TypeOf(Format format) {
  switch (format) {
    case Format::kFloat:
      return ffi::F32;
    case Format::kFloatCode:
      return ffi::U16;
    case Format::kLog:
      return ffi::U8;
    case Format::kRatio:
      return ffi::S8;
    default:
      return ffi::BF16;
  }
}

inline ffi::DataType TypeOf(Rounding rounding) {
  return rounding == Rounding::kKahan ? ffi::BF16 : rounding == Rounding::kSplit8 ? ffi::S8 : ffi::S16;
}

inline size_t ArraysOf(Format format) { return format == Format::kLog ? 3 : format == Format::kRatio ? 2 : 1; }

// What all leaves of a call share.
struct Kind {
  int64_t rule, flags, decay, rounding;
  ffi::Span<const int64_t> formats, units, turns;

  bool Keeps() const { return static_cast<Rounding>(rounding) > Rounding::kStochastic; }

  size_t Arrays() const {  // of a leaf, changed in place
    size_t arrays = Keeps() ? 2 : 1;
    for (int64_t format : formats) arrays += ArraysOf(static_cast<Format>(format));
    return arrays;
  }
};

// One leaf, once for each batch. Its bits are the step's number and its key. False if its arrays are not those that its
// kind has, and then nothing was done.
bool StepLeaf(const Kind& kind, const ffi::AnyBuffer& scalars, const ffi::AnyBuffer& bits, int64_t number,
              const ffi::AnyBuffer& g, InPlace& in_place, int64_t batches, ffi::ThreadPool& pool) {
  const int64_t all = static_cast<int64_t>(g.element_count()), size = all / batches;
  const auto dimensions = g.dimensions();
  const int64_t row = dimensions.size() == 0 ? 1 : std::min(size, dimensions.back());
  const int64_t groups = row == 0 ? 0 : all / row * ((row + kGroup - 1) / kGroup);
  const bool p_narrow = IsNarrow(in_place.Peek());
  const ffi::AnyBuffer p = in_place.Next(FloatType(p_narrow), all);
  const ffi::AnyBuffer residual = kind.Keeps() ? in_place.Next(TypeOf(static_cast<Rounding>(kind.rounding)), all) : p;
  ffi::AnyBuffer arrays[kSlots][3] = {{p, p, p}, {p, p, p}, {p, p, p}};
  for (size_t k = 0; k < kind.formats.size(); ++k) {
    const auto format = static_cast<Format>(kind.formats[k]);
    arrays[k][0] = in_place.Next(TypeOf(format), all);
    for (size_t j = 1; j < ArraysOf(format); ++j)
      arrays[k][j] = in_place.Next(format == Format::kLog ? ffi::U8 : ffi::BF16, groups);
  }
  if (!in_place.AsSaid() || !InPlace::Is(g, FloatType(IsNarrow(g)), all) || (kind.Keeps() && !p_narrow)) return false;
  if (size == 0) return true;
  Leaf leaf{};
  leaf.rule = static_cast<Rule>(kind.rule);
  leaf.flags = static_cast<int>(kind.flags);
  leaf.decay = static_cast<Decay>(kind.decay);
  leaf.rounding = static_cast<Rounding>(kind.rounding);
  leaf.size = size;
  leaf.row = row;
  leaf.g_narrow = IsNarrow(g);
  leaf.p_narrow = p_narrow;
  leaf.slot_count = static_cast<int>(kind.formats.size());
  leaf.turn = static_cast<int>(kind.turns[kind.formats.size()]);
  for (int64_t i = 0; i < batches; ++i) {
    std::memcpy(&leaf.scalars, Part<float>(scalars, i, batches), sizeof(Scalars));
    leaf.g = Part(g, i, batches);
    leaf.p = Part(p, i, batches);
    leaf.residual = kind.Keeps() ? Part(residual, i, batches) : nullptr;
    leaf.count = Part<uint32_t>(bits, i, batches)[2 * number];
    leaf.key = Part<uint32_t>(bits, i, batches)[2 * number + 1];
    for (int k = 0; k < leaf.slot_count; ++k) {
      Slot& slot = leaf.slots[k];
      slot.format = static_cast<Format>(kind.formats[k]);
      slot.unit = slot.format == Format::kRatio ? static_cast<Unit>(kind.units[k]) : Unit::kNone;
      slot.turn = static_cast<int>(kind.turns[k]);
      slot.code = Part(arrays[k][0], i, batches);
      if (slot.format == Format::kLog) {
        slot.low = Part<uint8_t>(arrays[k][1], i, batches);
        slot.high = Part<uint8_t>(arrays[k][2], i, batches);
      } else if (slot.format == Format::kRatio) {
        slot.scale = Part<uint16_t>(arrays[k][1], i, batches);
      }
    }
    Step(leaf, pool);
  }
  return true;
}

// The operands are scalars, every leaf's bits, every leaf's gradient, then leaf by leaf what is changed in place:
// parameter, residual if any, and every slot's arrays.
ffi::Error StepLeaves(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t version,
                      int64_t rule, int64_t flags, int64_t decay, int64_t rounding, ffi::Span<const int64_t> formats,
                      ffi::Span<const int64_t> units, ffi::Span<const int64_t> turns) {
  if (version != kVersion) return ffi::Error::InvalidArgument(kOtherVersion);
  if (formats.size() > kSlots || formats.size() != units.size() || formats.size() + 1 != turns.size())
    return ffi::Error::InvalidArgument("adamx: too many slots");
  const Kind kind{rule, flags, decay, rounding, formats, units, turns};
  if (args.size() < 2) return ffi::Error::InvalidArgument("adamx: no operands");
  const ffi::AnyBuffer scalars = *args.get<ffi::AnyBuffer>(0), bits = *args.get<ffi::AnyBuffer>(1);
  const int64_t batches = static_cast<int64_t>(scalars.element_count()) / kScalars;
  if (batches == 0) return ffi::Error::Success();
  const int64_t leaves = static_cast<int64_t>(bits.element_count()) / (2 * batches);
  const size_t arrays = static_cast<size_t>(leaves) * kind.Arrays();
  if (scalars.element_type() != ffi::F32 || bits.element_type() != ffi::U32 || rets.size() != arrays ||
      args.size() != 2 + static_cast<size_t>(leaves) + arrays)
    return ffi::Error::InvalidArgument("adamx: operands that are not those of this rule and these formats");
  InPlace in_place(args, rets, static_cast<size_t>(leaves) + 2);
  for (int64_t i = 0; i < leaves; ++i)
    if (!StepLeaf(kind, scalars, bits, i, *args.get<ffi::AnyBuffer>(static_cast<size_t>(i) + 2), in_place, batches, pool))
      return ffi::Error::InvalidArgument("adamx: a leaf's arrays are not of the types and sizes of its formats");
  return ffi::Error::Success();
}

// What Python asks first, to see that calls arrive and of which version the library is. The operand says where.
ffi::Error Answer(ffi::AnyBuffer, ffi::ResultBufferR0<ffi::S32> version) {
  *version->typed_data() = static_cast<int32_t>(kVersion);
  return ffi::Error::Success();
}

}  // namespace adamx

EXPORT XLA_FFI_Error* AdamxAnswer(XLA_FFI_CallFrame* frame) {
  static const auto* handler =
      xla::ffi::Ffi::Bind().Arg<xla::ffi::AnyBuffer>().Ret<xla::ffi::BufferR0<xla::ffi::S32>>().To(adamx::Answer).release();
  return handler->Call(frame);
}

EXPORT XLA_FFI_Error* AdamxStep(XLA_FFI_CallFrame* frame) {
  static const auto* handler = xla::ffi::Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attr<int64_t>("version")
                                   .Attr<int64_t>("rule")
                                   .Attr<int64_t>("flags")
                                   .Attr<int64_t>("decay")
                                   .Attr<int64_t>("rounding")
                                   .Attr<xla::ffi::Span<const int64_t>>("formats")
                                   .Attr<xla::ffi::Span<const int64_t>>("units")
                                   .Attr<xla::ffi::Span<const int64_t>>("turns")
                                   .To(adamx::StepLeaves)
                                   .release();
  return handler->Call(frame);
}

#endif
