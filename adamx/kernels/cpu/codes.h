// The codes of slots: a group to float and back.
//
// What is quick is not right for every float: it says so, and then the group is done again with care. Codes come out
// the same.

#ifndef ADAMX_CODES_H_
#define ADAMX_CODES_H_

#include <limits>

#include "leaf.h"

namespace adamx {

// bfloat16, dithered

INLINE bool EncodeMeanQuickly(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT code) {
  int32_t most = 0;
  for (int i = 0; i < kGroup; ++i) {
    const int32_t raw = Bits(x[i]);
    most = std::max(most, raw & 0x7FFFFFFF);
    code[i] = static_cast<uint16_t>((static_cast<uint32_t>(raw) + (bits[i] >> 16)) >> 16);
  }
  return most < 0x7F7F0000;  // nothing becomes infinite
}

INLINE void EncodeMean(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT code) {
  if (EncodeMeanQuickly(x, bits, code)) return;
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    const uint32_t raw = static_cast<uint32_t>(Bits(x[i])), size = raw & 0x7FFFFFFFu;
    const uint32_t down = raw >> 16, up = (raw + (bits[i] >> 16)) >> 16;
    const uint32_t kept = (size >= kInfinity) | ((up & 0x7F80u) == 0x7F80u) ? down : up;
    code[i] = static_cast<uint16_t>(size > kInfinity ? kept | kQuiet : kept);
  }
}

// bfloat16 without a sign, which has a ninth bit of fraction in its place

INLINE void DecodeFloatCode(const uint16_t* RESTRICT code, float* RESTRICT x) {
  for (int i = 0; i < kGroup; ++i) x[i] = Float(static_cast<int32_t>(static_cast<uint32_t>(code[i]) << 15));
}

INLINE bool EncodeFloatCodeQuickly(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT code) {
  uint32_t most = 0;
  for (int i = 0; i < kGroup; ++i) {
    const uint32_t raw = static_cast<uint32_t>(Bits(x[i])) & 0x7FFFFFFFu;
    most = std::max(most, raw);
    code[i] = static_cast<uint16_t>((raw + (bits[i] >> 17)) >> 15);
  }
  return most < 0x7F7F0000u;
}

INLINE void EncodeFloatCode(const float* RESTRICT x, const uint32_t* RESTRICT bits, uint16_t* RESTRICT code) {
  if (EncodeFloatCodeQuickly(x, bits, code)) return;
  ROLLED
  for (int i = 0; i < kGroup; ++i) {
    const uint32_t raw = static_cast<uint32_t>(Bits(x[i])) & 0x7FFFFFFFu;
    const uint32_t down = raw >> 15, up = (raw + (bits[i] >> 17)) >> 15;
    const uint32_t kept = up >= 0xFF00u ? down : up;
    code[i] = static_cast<uint16_t>(raw > kInfinity ? 0xFFFFu : kept);
  }
}

// int8, a second moment by its logarithm

INLINE void DecodeLog(const uint8_t* RESTRICT code, int32_t low, int32_t high, int length, float* RESTRICT x) {
  if (low == 255) return std::fill(x, x + length, std::numeric_limits<float>::quiet_NaN());
  const int32_t base = low * kOctave, last = (high - low) * kOctave - 1;
  const float octaves = static_cast<float>(high - low);
  for (int i = 0; i < length; ++i) {
    const int32_t step = code[i];
    const float steps = static_cast<float>(step) * octaves - octaves;  // exact
    const int32_t place = std::min(static_cast<int32_t>(steps * (kOctave / 254.0f)), last);
    x[i] = Float(step == 0 ? 0 : base + place);
  }
}

struct Ends {
  int32_t low, high;
  bool broken;
};

INLINE Ends EndsOf(const float* RESTRICT x, int length) {
  uint32_t least = 0xFFFFFFFFu;  // of those that are not zero or subnormal, which come out as the largest
  int32_t most = 0;
  for (int i = 0; i < length; ++i) {
    const int32_t raw = Bits(x[i]) & 0x7FFFFFFF;
    least = std::min(least, static_cast<uint32_t>(raw) - static_cast<uint32_t>(kOctave));
    most = std::max(most, raw);
  }
  const int32_t smallest = least > 0x7FFFFFFFu ? 255 : static_cast<int32_t>(least / kOctave) + 1;
  const int32_t high = std::min(std::max(most / kOctave, 1) + 1, 256);
  return {std::max(std::min(smallest, high - 1), high - kSpan), high, high == 256};
}

INLINE void EncodeLog(const float* RESTRICT x, const uint32_t* RESTRICT bits, Ends ends, int length,
                      uint8_t* RESTRICT code) {
  const int32_t base = ends.low * kOctave;
  const int32_t least = ends.broken ? 0 : kOctave;  // what is smaller is zero
  const float steps = (254.0f / kOctave) / static_cast<float>(ends.high - ends.low);
  for (int i = 0; i < length; ++i) {
    const int32_t raw = Bits(x[i]) & 0x7FFFFFFF;
    const float place = static_cast<float>(raw - base) * steps;
    const int32_t whole = static_cast<int32_t>(place + UnitInterval(bits[i]));
    const int32_t kept = -static_cast<int32_t>(raw >= least);  // a mask, where compilers would make branches
    code[i] = static_cast<uint8_t>(kept & (1 + std::min(std::max(whole, 0), 254)));
  }
}

// int8, a mean by its ratio to its unit

template <Unit kUnit>
INLINE float UnitOf(float nu) {
  return kUnit == Unit::kRoot ? std::sqrt(nu) : kUnit == Unit::kItself ? nu : 1.0f;
}

// x / (254 - |x|) for whole numbers from -128 to 127, rounded as a division where products and sums are fused: the
// inverse from the parabola that is off by a hundredth at most, a step of third order, and one for the quotient.
INLINE float OfPlace(float x) {
  const float y = 254.0f - std::fabs(x), first = (1.578e-7f * y - 9.018e-5f) * y + 0.016703f;
  const float lack = 1 - y * first, inverse = first + first * (lack + lack * lack), near = x * inverse;
  return near - (near * y - x) * inverse;
}

template <Unit kUnit, bool kFuses>
INLINE void DecodeRatio(const int8_t* RESTRICT code, float scale, const float* RESTRICT nu, int length,
                        float* RESTRICT x) {
  for (int i = 0; i < length; ++i) {
    const float place = static_cast<float>(static_cast<int32_t>(code[i]));
    const float ratio = (kFuses ? OfPlace(place) : place / (254.0f - std::fabs(place))) * scale;
    x[i] = kUnit == Unit::kNone ? ratio : ratio * UnitOf<kUnit>(nu[i]);
  }
}

// A group's largest ratio, in bit patterns, which NaN's exceed all others, up to the next quarter of an octave.
INLINE int32_t ScaleOf(int32_t top) {
  return top < kInfinite ? std::min((top + kQuarter - 1) & -kQuarter, kInfinite - kQuarter) : top;
}

// By what approximates the roots and is off by less than kDoubt: with codes so far from where they change, they are
// right. In places of 2^-20 of a code, which leaves room for the 127 codes and their sign.
constexpr int kPlaces = 20;
constexpr int32_t kDoubt = 128;

// The ratios of a group that is ordinary, divided by the root of 2, and their scale, which is 0 if they are not to be
// relied on. Inverse roots of 2 nu come from the halved bit pattern, by a step of third order and one of second.
INLINE float RatiosOf(const float* RESTRICT x, const float* RESTRICT nu, int length, float* RESTRICT ratios) {
  int32_t top = 0;
  for (int i = 0; i < length; ++i) {
    const float guess = Float(0x5EF74740 - (Bits(nu[i]) >> 1)), lack = 0.5f - nu[i] * guess * guess;
    const float inverse = guess + guess * lack * (1 + 1.5f * lack), near = x[i] * inverse;
    const float ratio = near + near * (0.5f - nu[i] * inverse * inverse);
    ratios[i] = nu[i] == 0 ? 0.0f : ratio;
    top = std::max(top, Bits(ratios[i]) & 0x7FFFFFFF);
  }
  constexpr auto power = [](int exponent) { return (127 + exponent) * kOctave; };
  const int32_t largest = Bits(Float(top) * 1.41421356f), scale = ScaleOf(largest);
  const bool sure = top >= power(-60) && top <= power(60) && ScaleOf(largest - 64) == ScaleOf(largest + 64);
  return sure ? Float(scale) : 0.0f;
}

INLINE bool EncodeRatioQuickly(const float* RESTRICT ratios, float scale, const uint32_t* RESTRICT bits, int length,
                               int8_t* RESTRICT code) {
  const float inverse = 1.41421356f / scale;
  int32_t nearest = 0x7FFFFFFF;
  for (int i = 0; i < length; ++i) {
    const float part = ratios[i] * inverse, divisor = 1 + std::fabs(part);  // from 1 to 2: its inverse is like a parabola
    const float first = (0.32323232f * divisor - 1.4545455f) * divisor + 2.1212121f, lack = 1 - divisor * first;
    const float near = part * first, nearer = near + near * lack, quotient = nearer + nearer * (lack * lack);
    const int32_t place = static_cast<int32_t>(quotient * (254.0f * (1 << kPlaces)));
    const int32_t dithered = place + static_cast<int32_t>(bits[i] >> (32 - kPlaces));
    nearest = std::min(nearest, (dithered + kDoubt) & ((1 << kPlaces) - 1));
    code[i] = static_cast<int8_t>(dithered >> kPlaces);
  }
  return nearest >= 2 * kDoubt;
}

template <Unit kUnit>
INLINE void EncodeRatioCarefully(const float* RESTRICT x, const float* RESTRICT nu, const uint32_t* RESTRICT bits,
                                 int length, int8_t* RESTRICT code, uint16_t& scale_out) {
  alignas(64) float ratios[kGroup];
  int32_t top = 0;
  ROLLED
  for (int i = 0; i < length; ++i) {
    ratios[i] = kUnit == Unit::kNone ? x[i] : DivNoNan(x[i], UnitOf<kUnit>(nu[i]));
    top = std::max(top, Bits(ratios[i]) & 0x7FFFFFFF);
  }
  const int32_t up = ScaleOf(top);
  const float scale = up == 0 ? 1.0f : Float(up);  // beside zeros any will do
  ROLLED
  for (int i = 0; i < length; ++i) {
    const float place = 254.0f * (ratios[i] / (scale + std::fabs(ratios[i])));
    const float dithered = place + UnitInterval(bits[i]) + 128.0f;  // cut off, it is rounded down
    const int32_t whole = static_cast<int32_t>(place == place ? dithered : 255.0f);
    code[i] = static_cast<int8_t>(std::min(std::max(whole, 1), 255) - 128);
  }
  scale_out = Narrowed(Float(up));
}

}  // namespace adamx

#endif
