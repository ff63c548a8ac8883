// Rules over floats: what one element's slots and its weight become.

#ifndef ADAMX_RULES_H_
#define ADAMX_RULES_H_

#include "quotients.h"

namespace adamx {

// Arithmetic

INLINE float Larger(float x, float y) { return (x > y) | (x != x) ? x : y; }
INLINE float Sign(float x) { return static_cast<float>((x > 0) - (x < 0)) + 0 * x; }

// Rules: what one element's slots become, and its direction. `by` averages, and divides by what is one number for all.
// The slots whose quotients a direction is made of are updated first, so that they can be looked at.

struct Defaults {
  static constexpr bool updates = true;  // slots, before there is a direction
  static constexpr bool updates_first = true, updates_second = true;  // by which averages
  static constexpr bool asks = false;  // for the gradient when there is, and for averages
  static constexpr bool averages_first = false, averages_second = false;
};

struct Asks : Defaults {
  static constexpr bool asks = true;
};

template <bool kNesterovs>
struct Adam : Defaults {
  static constexpr int slots = 2;
  static constexpr bool asks = kNesterovs, averages_first = kNesterovs;
  template <class How>
  static INLINE void Update(How& by, float g, float& mu, float& nu, float&) {
    mu = by.First(mu, g);
    nu = by.Second(nu, g * g);
    by.WillDivide(mu);
    by.WillRoot(nu);
    if (kNesterovs) by.WillDivide(g);
  }
  template <class How>
  static INLINE float Direction(const How& by, float g, float& mu, float& nu, float&) {
    const float mean = by.Over(mu, kNesterovs ? by.s.of_next : by.s.of_first);
    const float ahead = kNesterovs ? by.First(mean, by.Over(g, by.s.of_first)) : mean;
    return DivNoNan(ahead, by.Root(by.Over(nu, by.s.of_second)));
  }
};

template <bool kRaws>
struct AMSGrad : Defaults {
  static constexpr int slots = 3;
  template <class How>
  static INLINE void Update(How& by, float g, float& mu, float& nu, float& nu_max) {
    mu = by.First(mu, g);
    nu = by.Second(nu, g * g);
    if (kRaws) nu_max = Larger(nu_max, nu);
    by.WillDivide(mu);
    by.WillRoot(nu);
    if (kRaws) by.WillDivide(nu_max);
  }
  template <class How>
  static INLINE float Direction(const How& by, float, float& mu, float& nu, float& nu_max) {
    if (!kRaws) nu_max = Larger(nu_max, by.Over(nu, by.s.of_second));
    return DivNoNan(by.Over(mu, by.s.of_first), by.Root(kRaws ? by.Over(nu_max, by.s.of_second) : nu_max));
  }
};

struct AdaMax : Defaults {
  static constexpr int slots = 2;
  static constexpr bool updates_second = false;
  template <class How>
  static INLINE void Update(How& by, float g, float& mu, float& nu, float&) {
    mu = by.First(mu, g);
    nu = Larger(by.s.decay_rate * nu, std::fabs(g) + by.s.eps_root);
    by.WillDivide(mu);
  }
  template <class How>
  static INLINE float Direction(const How& by, float, float& mu, float& nu, float&) {
    return DivNoNan(by.Over(mu, by.s.of_first), nu + by.s.eps);
  }
};

struct Lion : Asks {
  static constexpr int slots = 1;
  static constexpr bool updates = false, averages_first = true, averages_second = true;
  template <class How>
  static INLINE float Direction(const How& by, float g, float& mu, float&, float&) {
    const float direction = Sign(by.First(mu, g));
    mu = by.Second(mu, g);
    return direction;
  }
};

template <bool kMomenta, bool kNesterovs>
struct RMSProp : Asks {
  static constexpr int slots = kMomenta ? 2 : 1;
  static constexpr bool updates_first = false;
  template <class How>
  static INLINE void Update(How& by, float g, float& nu, float&, float&) {
    nu = by.Second(nu, g * g);
    by.WillRoot(nu);
  }
  template <class How>
  static INLINE float Direction(const How& by, float g, float& nu, float& trace, float&) {
    const float direction = by.s.step_size * DivNoNan(g, by.Root(by.Over(nu, by.s.of_second)));
    if (!kMomenta) return direction;
    trace = by.s.momentum * trace + direction;
    return kNesterovs ? direction + by.s.momentum * trace : trace;
  }
};

struct AdaGrad : Asks {
  static constexpr int slots = 1;
  static constexpr bool updates = false;
  template <class How>
  static INLINE float Direction(const How& by, float g, float& nu, float&, float&) {
    nu = nu + g * g;
    return DivNoNan(g, by.Root(nu));
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

}  // namespace adamx

#endif
