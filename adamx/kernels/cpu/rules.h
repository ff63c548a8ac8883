// Rules over floats: what one element's slots and its weight become.

#ifndef ADAMX_RULES_H_
#define ADAMX_RULES_H_

#include "quotients.h"

namespace adamx {

// Arithmetic

INLINE float Larger(float x, float y) { return (x > y) | (x != x) ? x : y; }
INLINE float Sign(float x) { return static_cast<float>((x > 0) - (x < 0)) + 0 * x; }

// Rules: what one element's slots become, and its direction. `by` averages, and divides by what is one number for all.

INLINE float Root(const Scalars& s, float square) { return std::sqrt(square + s.eps_root) + s.eps; }

template <bool kNesterovs>
struct Adam {
  static constexpr int slots = 2;
  static constexpr bool corrects = true;
  template <class How>
  static INLINE float Direction(const Constants& s, How& by, float g, float& mu, float& nu, float&) {
    mu = by.First(mu, g);
    nu = by.Second(nu, g * g);
    const float mean = by.Over(mu, kNesterovs ? s.of_next : s.of_first);
    const float ahead = kNesterovs ? by.First(mean, by.Over(g, s.of_first)) : mean;
    return DivNoNan(ahead, Root(s, by.Over(nu, s.of_second)));
  }
};

template <bool kRaws>
struct AMSGrad {
  static constexpr int slots = 3;
  static constexpr bool corrects = true;
  template <class How>
  static INLINE float Direction(const Constants& s, How& by, float g, float& mu, float& nu, float& nu_max) {
    mu = by.First(mu, g);
    nu = by.Second(nu, g * g);
    nu_max = Larger(nu_max, kRaws ? nu : by.Over(nu, s.of_second));
    return DivNoNan(by.Over(mu, s.of_first), Root(s, kRaws ? by.Over(nu_max, s.of_second) : nu_max));
  }
};

struct AdaMax {
  static constexpr int slots = 2;
  static constexpr bool corrects = true;
  template <class How>
  static INLINE float Direction(const Constants& s, How& by, float g, float& mu, float& nu, float&) {
    mu = by.First(mu, g);
    nu = Larger(s.decay_rate * nu, std::fabs(g) + s.eps_root);
    return DivNoNan(by.Over(mu, s.of_first), nu + s.eps);
  }
};

struct Lion {
  static constexpr int slots = 1;
  static constexpr bool corrects = false;
  template <class How>
  static INLINE float Direction(const Constants&, How& by, float g, float& mu, float&, float&) {
    const float direction = Sign(by.First(mu, g));
    mu = by.Second(mu, g);
    return direction;
  }
};

template <bool kMomenta, bool kNesterovs>
struct RMSProp {
  static constexpr int slots = kMomenta ? 2 : 1;
  static constexpr bool corrects = true;
  template <class How>
  static INLINE float Direction(const Constants& s, How& by, float g, float& nu, float& trace, float&) {
    nu = by.Second(nu, g * g);
    const float direction = s.step_size * DivNoNan(g, Root(s, by.Over(nu, s.of_second)));
    if (!kMomenta) return direction;
    trace = s.momentum * trace + direction;
    return kNesterovs ? direction + s.momentum * trace : trace;
  }
};

struct AdaGrad {
  static constexpr int slots = 1;
  static constexpr bool corrects = false;
  template <class How>
  static INLINE float Direction(const Constants& s, How&, float g, float& nu, float&, float&) {
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

// `groups` groups of everything in float, in place

struct Floats {
  const float* g;
  float* p;
  float* slots[kSlots];
};

// One element: `x` are its slots, and become the new ones.
template <class kRule, Decay kDecay, class How>
INLINE float Moved(const Constants& s, How& by, float g, float p, float x[kSlots]) {
  float gradient = by.Scaled(g);
  if (kDecay == Decay::kL2) gradient += s.weight_decay * p;
  return Descended<kDecay>(s, p, kRule::Direction(s, by, gradient, x[0], x[1], x[2]));
}

template <class kRule, Decay kDecay, class How>
INLINE void Advance(const Constants& constants, const float* RESTRICT g, float* RESTRICT p, float* RESTRICT x,
                    float* RESTRICT y, float* RESTRICT z) {
  const Constants s = constants;
  How by(s);
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    float slots[kSlots] = {x[i], kRule::slots > 1 ? y[i] : 0, kRule::slots > 2 ? z[i] : 0};
    p[i] = Moved<kRule, kDecay>(s, by, g[i], p[i], slots);
    x[i] = slots[0];
    if (kRule::slots > 1) y[i] = slots[1];
    if (kRule::slots > 2) z[i] = slots[2];
  }
}

// The same, aside at first, so that it can still be done otherwise: false if it must be.
template <class kRule, Decay kDecay, class How>
INLINE bool AdvanceQuickly(const Constants& constants, const float* RESTRICT g, float* RESTRICT p, float* RESTRICT x,
                           float* RESTRICT y, float* RESTRICT z) {
  const Constants s = constants;
  How by(s);
  alignas(64) float weights[kGroup], first[kGroup], second[kGroup], third[kGroup];
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    float slots[kSlots] = {x[i], kRule::slots > 1 ? y[i] : 0, kRule::slots > 2 ? z[i] : 0};
    weights[i] = Moved<kRule, kDecay>(s, by, g[i], p[i], slots);
    first[i] = slots[0];
    if (kRule::slots > 1) second[i] = slots[1];
    if (kRule::slots > 2) third[i] = slots[2];
  }
  if (!by.WasRight()) return false;
  std::memcpy(p, weights, sizeof weights);
  std::memcpy(x, first, sizeof first);
  if (kRule::slots > 1) std::memcpy(y, second, sizeof second);
  if (kRule::slots > 2) std::memcpy(z, third, sizeof third);
  return true;
}

template <class kRule, Decay kDecay, bool kScales, bool kFirstFromOld, bool kSecondFromOld>
INLINE void AdvanceGroups(const Constants& s, const Floats& floats, int64_t groups) {
  using Carefully = Dividing<kScales, kFirstFromOld, kSecondFromOld>;
  using Quickly = Multiplying<kScales>;
  const bool quick = kRule::corrects && kFirstFromOld && kSecondFromOld && s.AllowMultiplying();
  const float* g = floats.g;
  float *p = floats.p, *x = floats.slots[0], *y = floats.slots[1], *z = floats.slots[2];
  for (int64_t k = 0; k < groups; ++k, g += kGroup, p += kGroup, x += kGroup, y += kGroup, z += kGroup) {
    if constexpr (kRule::corrects && kFirstFromOld && kSecondFromOld)
      if (quick && AdvanceQuickly<kRule, kDecay, Quickly>(s, g, p, x, y, z)) continue;
    Advance<kRule, kDecay, Carefully>(s, g, p, x, y, z);
  }
}

template <class kRule, Decay kDecay, bool kScales>
INLINE void AdvanceScaled(const Constants& s, const Floats& floats, int64_t groups) {
  const bool first = s.first.from_old != 0, second = s.second.from_old != 0;
  if (first && second) return AdvanceGroups<kRule, kDecay, kScales, true, true>(s, floats, groups);
  if (first) return AdvanceGroups<kRule, kDecay, kScales, true, false>(s, floats, groups);
  if (second) return AdvanceGroups<kRule, kDecay, kScales, false, true>(s, floats, groups);
  return AdvanceGroups<kRule, kDecay, kScales, false, false>(s, floats, groups);
}

template <class kRule, Decay kDecay>
INLINE void AdvanceDecayed(const Leaf& leaf, const Floats& floats, int64_t groups) {
  const Constants s(leaf.scalars);
  if (s.grad_scale != 1) return AdvanceScaled<kRule, kDecay, true>(s, floats, groups);
  return AdvanceScaled<kRule, kDecay, false>(s, floats, groups);
}

template <class kRule>
INLINE void AdvanceBy(const Leaf& leaf, const Floats& floats, int64_t groups) {
  switch (leaf.decay) {
    case Decay::kNone:
      return AdvanceDecayed<kRule, Decay::kNone>(leaf, floats, groups);
    case Decay::kShrink:
      return AdvanceDecayed<kRule, Decay::kShrink>(leaf, floats, groups);
    case Decay::kL2:
      return AdvanceDecayed<kRule, Decay::kL2>(leaf, floats, groups);
    case Decay::kCautious:
      return AdvanceDecayed<kRule, Decay::kCautious>(leaf, floats, groups);
    case Decay::kProximal:
      return AdvanceDecayed<kRule, Decay::kProximal>(leaf, floats, groups);
  }
}

// One function for each rule: compilers take far longer over one that has them all, for every machine again.

FOR_EACH_MACHINE void AdvanceAdam(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<Adam<false>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceNAdam(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<Adam<true>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceAMSGrad(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<AMSGrad<false>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceRawAMSGrad(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<AMSGrad<true>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceAdaMax(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<AdaMax>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceLion(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<Lion>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceRMSProp(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<RMSProp<false, false>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceMomentumRMSProp(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<RMSProp<true, false>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceNesterovRMSProp(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<RMSProp<true, true>>(leaf, floats, groups);
}

FOR_EACH_MACHINE void AdvanceAdaGrad(const Leaf& leaf, const Floats& floats, int64_t groups) {
  return AdvanceBy<AdaGrad>(leaf, floats, groups);
}

inline void AdvanceLeaf(const Leaf& leaf, const Floats& floats, int64_t groups) {
  const bool nesterov = leaf.flags & kNesterov, raw = leaf.flags & kRaw, momentum = leaf.flags & kMomentum;
  switch (leaf.rule) {
    case Rule::kAdam:
      return nesterov ? AdvanceNAdam(leaf, floats, groups) : AdvanceAdam(leaf, floats, groups);
    case Rule::kAMSGrad:
      return raw ? AdvanceRawAMSGrad(leaf, floats, groups) : AdvanceAMSGrad(leaf, floats, groups);
    case Rule::kAdaMax:
      return AdvanceAdaMax(leaf, floats, groups);
    case Rule::kLion:
      return AdvanceLion(leaf, floats, groups);
    case Rule::kRMSProp:
      if (!momentum) return AdvanceRMSProp(leaf, floats, groups);
      return nesterov ? AdvanceNesterovRMSProp(leaf, floats, groups) : AdvanceMomentumRMSProp(leaf, floats, groups);
    case Rule::kAdaGrad:
      return AdvanceAdaGrad(leaf, floats, groups);
  }
}

}  // namespace adamx

#endif
