// Weights and gradients: a block of them to float, and weights back, rounded, with what is kept beside them.

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

}  // namespace adamx

#endif
