// A step of a leaf's groups that are float: loops over a rule, for all that the compiler must know to make good ones.

#ifndef ADAMX_ADVANCE_H_
#define ADAMX_ADVANCE_H_

#include <type_traits>

#include "rules.h"

namespace adamx {

// `groups` groups of everything in float, in place

struct Floats {
  const float* g;
  float* p;
  float* slots[kSlots];
  bool* ordinary;  // of each group, whether a first and a second moment are; null if nobody asks
};

template <class How>
INLINE float Gradient(const How& by, bool l2, float g, float p) {
  const float gradient = by.Scaled(g);
  return l2 ? gradient + by.s.weight_decay * p : gradient;
}

// One group's slots; whether what was looked at is ordinary.
template <class kRule, bool kL2, class How>
INLINE bool Update(const Constants& s, const Floats& floats) {
  const float *RESTRICT g = floats.g, *RESTRICT p = floats.p;
  float *RESTRICT x = floats.slots[0], *RESTRICT y = floats.slots[1], *RESTRICT z = floats.slots[2];
  How by(s);
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    float first = x[i], second = kRule::slots > 1 ? y[i] : 0, third = kRule::slots > 2 ? z[i] : 0;
    kRule::Update(by, Gradient(by, kL2, g[i], kL2 ? p[i] : 0), first, second, third);
    x[i] = first;
    if (kRule::slots > 1) y[i] = second;
    if (kRule::slots > 2) z[i] = third;
  }
  return by.SawOrdinary();
}

template <class kRule, Decay kDecay, class How>
INLINE void Move(const Constants& s, const Floats& floats) {
  const float* RESTRICT g = floats.g;
  float* RESTRICT p = floats.p;
  float *RESTRICT x = floats.slots[0], *RESTRICT y = floats.slots[1], *RESTRICT z = floats.slots[2];
  const How by(s);
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    const float gradient = kRule::asks ? Gradient(by, kDecay == Decay::kL2, g[i], p[i]) : 0;
    float first = x[i], second = kRule::slots > 1 ? y[i] : 0, third = kRule::slots > 2 ? z[i] : 0;
    const float direction = kRule::Direction(by, gradient, first, second, third);
    x[i] = first;
    if (kRule::slots > 1) y[i] = second;
    if (kRule::slots > 2) z[i] = third;
    p[i] = Descended<kDecay>(by.s, p[i], direction);
  }
}

// From what is known of a step to what the compiler knows. What a rule makes no use of is not varied.

template <bool kVaries, class Then>
INLINE void Known(bool x, const Then& then) {
  if constexpr (kVaries)
    if (!x) return then(std::false_type());
  then(std::true_type());
}

template <class kRule, class How>
INLINE void MoveBy(Decay decay, const Constants& s, const Floats& floats) {
  switch (decay) {
    case Decay::kNone:
      return Move<kRule, Decay::kNone, How>(s, floats);
    case Decay::kShrink:
      return Move<kRule, Decay::kShrink, How>(s, floats);
    case Decay::kL2:
      return Move<kRule, Decay::kL2, How>(s, floats);
    case Decay::kCautious:
      return Move<kRule, Decay::kCautious, How>(s, floats);
    case Decay::kProximal:
      return Move<kRule, Decay::kProximal, How>(s, floats);
  }
}

template <class kRule>
INLINE bool AdvanceGroup(Decay decay, const Constants& s, bool may_multiply, const Floats& floats) {
  const bool raw = s.grad_scale == 1, first = s.first.from_old != 0, second = s.second.from_old != 0;
  bool ordinary = false;
  if constexpr (kRule::updates)
    Known<true>(raw, [&](auto raw) INLINED {
      Known<kRule::updates_first>(first, [&](auto first) INLINED {
        Known<kRule::updates_second>(second, [&](auto second) INLINED {
          Known<true>(decay == Decay::kL2, [&](auto l2) INLINED {
            using By = How<!raw.value, first.value, second.value, false>;
            ordinary = Update<kRule, l2.value, By>(s, floats);
          });
        });
      });
    });
  Known<kRule::asks>(raw, [&](auto raw) INLINED {
    Known<kRule::averages_first>(first, [&](auto first) INLINED {
      Known<kRule::averages_second>(second, [&](auto second) INLINED {
        if (kRule::updates && may_multiply && ordinary)
          MoveBy<kRule, How<!raw.value, first.value, second.value, kRule::updates>>(decay, s, floats);
        else
          MoveBy<kRule, How<!raw.value, first.value, second.value, false>>(decay, s, floats);
      });
    });
  });
  return ordinary;
}

template <class kRule>
INLINE void AdvanceBy(const Leaf& leaf, Floats floats, int64_t groups) {
  const Constants s(leaf.scalars);
  const bool may_multiply = s.AllowMultiplying();
  for (int64_t k = 0; k < groups; ++k) {
    const bool ordinary = AdvanceGroup<kRule>(leaf.decay, s, may_multiply, floats);
    if (floats.ordinary != nullptr) floats.ordinary[k] = ordinary;
    floats.g += kGroup;
    floats.p += kGroup;
    for (int j = 0; j < kRule::slots; ++j) floats.slots[j] += kGroup;
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
