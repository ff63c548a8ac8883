// Weights and gradients: groups of them to float, and weights back, rounded, with what is kept beside them.

#ifndef ADAMX_WEIGHTS_H_
#define ADAMX_WEIGHTS_H_

#include "leaf.h"

namespace adamx {

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

// Groups of weights and gradients in float: where they lie if they are, else in `x`.

INLINE void Widen(const void* narrow, float* RESTRICT x, int groups) {
  const uint16_t* RESTRICT from = static_cast<const uint16_t*>(narrow);
  for (int k = 0; k < groups; ++k, from += kGroup, x += kGroup)
    for (int i = 0; i < kGroup; ++i) x[i] = Widened(from[i]);
}

INLINE void Narrow(const float* RESTRICT x, void* narrow, int groups) {
  uint16_t* RESTRICT to = static_cast<uint16_t*>(narrow);
  for (int k = 0; k < groups; ++k, x += kGroup, to += kGroup)
    for (int i = 0; i < kGroup; ++i) to[i] = Narrowed(x[i]);
}

INLINE void LoadWeights(const Leaf& leaf, const Block& b, float* RESTRICT x) {
  const uint16_t* RESTRICT p = static_cast<const uint16_t*>(b.p);
  const int n = b.groups * kGroup;
  switch (leaf.rounding) {
    case Rounding::kNearest:
    case Rounding::kStochastic:
      return Widen(p, x, b.groups);
    case Rounding::kKahan: {
      const uint16_t* RESTRICT lost = static_cast<const uint16_t*>(b.residual);
      for (int at = 0; at < n; at += kGroup)
        for (int i = at; i < at + kGroup; ++i) x[i] = Widened(p[i]) + Widened(lost[i]);
      return;
    }
    case Rounding::kSplit8: {
      const int8_t* RESTRICT code = static_cast<const int8_t*>(b.residual);
      for (int at = 0; at < n; at += kGroup)
        for (int i = at; i < at + kGroup; ++i) x[i] = Master(p[i], code[i], 256);
      return;
    }
    case Rounding::kSplit16: {
      const int16_t* RESTRICT code = static_cast<const int16_t*>(b.residual);
      for (int at = 0; at < n; at += kGroup)
        for (int i = at; i < at + kGroup; ++i) x[i] = Master(p[i], code[i], 1);
      return;
    }
  }
}

// One group's new weights in bfloat16, and what is kept beside them.

INLINE void StoreNearest(const float* RESTRICT x, uint16_t* RESTRICT p, uint32_t* RESTRICT kept) {
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    kept[i] = NearestFinite(x[i]);  // once more, for loops that write one width only
    p[i] = static_cast<uint16_t>(kept[i]);
  }
}

INLINE void StoreKahan(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT p,
                       uint16_t* RESTRICT lost) {
  alignas(64) uint32_t kept[kGroup];
  alignas(64) float rests[kGroup];
  StoreNearest(x, p, kept);
  ROLLED
  for (int i = 0; i < kGroup; ++i) rests[i] = Finite(x[i]) ? x[i] - Widened(kept[i]) : 0.0f;
  ROLLED
  for (int i = 0; i < kGroup; ++i) lost[i] = static_cast<uint16_t>(Stochastic(rests[i], bits[i]));
}

// What is finite, and stays so, needs no care: its sign is the same in the weight and in what is left beside it. False
// if something is not.
INLINE bool StoreSplit8Quickly(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT p,
                               int8_t* RESTRICT code) {
  int32_t most = 0;
  alignas(64) int32_t rests[kGroup];  // a loop each for what is of different widths
  for (int i = 0; i < kGroup; ++i) {
    const int32_t raw = Bits(x[i]);
    most = std::max(most, raw & 0x7FFFFFFF);
    const uint32_t up = static_cast<uint32_t>(raw) + 0x7FFFu + (static_cast<uint32_t>(raw) >> 16 & 1u);
    p[i] = static_cast<uint16_t>(up >> 16);
    rests[i] = raw - static_cast<int32_t>(up & 0xFFFF0000u);
  }
  for (int i = 0; i < kGroup; ++i)
    code[i] = static_cast<int8_t>(std::min((rests[i] + static_cast<int32_t>(bits[i] >> 24)) >> 8, 127));
  return most < 0x7F7F8000;
}

INLINE void StoreSplit8(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT p,
                        int8_t* RESTRICT code) {
  alignas(64) uint32_t kept[kGroup];
  StoreNearest(x, p, kept);
  ROLLED
  for (int i = 0; i < kGroup; ++i) code[i] = static_cast<int8_t>(DitheredResidual(x[i], kept[i], bits[i]));
}

INLINE void StoreSplit16(const float* RESTRICT x, uint16_t* RESTRICT p, int16_t* RESTRICT code) {
  alignas(64) uint32_t kept[kGroup];
  StoreNearest(x, p, kept);
  ROLLED
  for (int i = 0; i < kGroup; ++i) code[i] = static_cast<int16_t>(ExactResidual(x[i], kept[i]));
}

INLINE void StoreWeights(const Leaf& leaf, const Block& b, const float* RESTRICT x, Work& work) {
  uint16_t* RESTRICT p = static_cast<uint16_t*>(b.p);
  const int n = b.groups * kGroup;
  switch (leaf.rounding) {
    case Rounding::kNearest:
      return Narrow(x, p, b.groups);
    case Rounding::kStochastic: {
      const uint32_t* RESTRICT bits = Uniform(leaf, b, work, leaf.turn);
      for (int at = 0; at < n; at += kGroup)
        for (int i = at; i < at + kGroup; ++i) p[i] = static_cast<uint16_t>(Stochastic(x[i], bits[i]));
      return;
    }
    case Rounding::kKahan: {
      const uint32_t* bits = Uniform(leaf, b, work, leaf.turn);
      for (int at = 0; at < n; at += kGroup)
        StoreKahan(x + at, bits + at, p + at, static_cast<uint16_t*>(b.residual) + at);
      return;
    }
    case Rounding::kSplit8: {
      const uint32_t* bits = Weyl(leaf, b, work, leaf.turn);
      int8_t* code = static_cast<int8_t*>(b.residual);
      for (int at = 0; at < n; at += kGroup)
        if (!StoreSplit8Quickly(x + at, bits + at, p + at, code + at))
          StoreSplit8(x + at, bits + at, p + at, code + at);
      return;
    }
    case Rounding::kSplit16:
      for (int at = 0; at < n; at += kGroup) StoreSplit16(x + at, p + at, static_cast<int16_t*>(b.residual) + at);
      return;
  }
}

}  // namespace adamx

#endif
