// Division by a number that all elements are divided by, as bias corrections are: three multiplications take a third of a
// division's time, and are rounded as it is.

#ifndef ADAMX_QUOTIENTS_H_
#define ADAMX_QUOTIENTS_H_

#include "leaf.h"

namespace adamx {

struct Divisor {
  explicit Divisor(float x) : value(x), inverse(1 / x) {}
  bool Allows() const { return value >= 0x1p-24f && value <= 1; }
  float value, inverse;
};

struct Constants : Scalars {
  explicit Constants(const Scalars& s)
      : Scalars(s), of_first(s.first_correction), of_next(s.next_correction), of_second(s.second_correction) {}
  bool AllowMultiplying() const {
    return Fuses() && of_first.Allows() && of_next.Allows() && of_second.Allows();
  }
  Divisor of_first, of_next, of_second;
};

template <bool kFromOld>
INLINE float Averaged(float old, float now, float weight) {
  const float base = kFromOld ? old : now, other = kFromOld ? now : old;
  return base + weight * (other - base);
}

// What rules do with their constants. Whether gradients are scaled, and which way averages go, is known to the compiler:
// it fuses products and sums otherwise where it is not.
template <bool kScales, bool kFirstFromOld, bool kSecondFromOld, bool kMultiplies>
struct How {
  explicit How(const Constants& constants) : s(constants) {}

  INLINE float Scaled(float g) const { return kScales ? g * s.grad_scale : g; }
  INLINE float First(float old, float now) const { return Averaged<kFirstFromOld>(old, now, s.first.weight); }
  INLINE float Second(float old, float now) const { return Averaged<kSecondFromOld>(old, now, s.second.weight); }

  // By Markstein's theorem: the nearest float to x times the divisor's inverse, moved by what it is off. As the inverse
  // is rounded to nearest, this is rounded as a division's quotient, all those nearest to the middle of two floats, of
  // all 2^23 divisors, among them. Zero keeps its sign, which is why the excess is taken off and not the lack added.
  INLINE float Over(float x, const Divisor& d) const {
    if (!kMultiplies) return x / d.value;
    const float near = x * d.inverse, excess = near * d.value - x;
    return near - excess * d.inverse;
  }

  INLINE float Root(float square) const { return std::sqrt(square + s.eps_root) + s.eps; }

  // Beyond 2^-100 to 2^100, what a product is off may be lost, and so may a quick root's rest: what will be divided, or
  // what a root will be taken of, which must not be negative, is looked at before.
  INLINE void WillDivide(float x) { Look(static_cast<uint32_t>(Bits(x)) & 0x7FFFFFFFu); }
  INLINE void WillRoot(float x) { Look(static_cast<uint32_t>(Bits(x))); }
  INLINE void Look(uint32_t size) {
    least = std::min(least, size - 1);  // zero becomes the largest
    most = std::max(most, size);
  }
  INLINE bool SawOrdinary() const { return least >= ((127u - 100u) << 23) - 1 && most <= (127u + 100u) << 23; }

  Constants s;
  uint32_t least = 0xFFFFFFFFu, most = 0;
};

}  // namespace adamx

#endif
