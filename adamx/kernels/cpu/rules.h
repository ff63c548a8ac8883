// Rules over floats: what one element's slots and its weight become.

#ifndef ADAMX_RULES_H_
#define ADAMX_RULES_H_

#include "leaf.h"

namespace adamx {

// Arithmetic

INLINE float Averaged(float old, float now, Average a) {
  const bool from_old = a.from_old != 0;
  const float base = from_old ? old : now, other = from_old ? now : old;
  return base + a.weight * (other - base);
}

INLINE float Larger(float x, float y) { return (x > y) | (x != x) ? x : y; }
INLINE float Sign(float x) { return static_cast<float>((x > 0) - (x < 0)) + 0 * x; }

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

}  // namespace adamx

#endif
