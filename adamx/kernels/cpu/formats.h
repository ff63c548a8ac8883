// How slots are stored: a block of one to float and back, and what arrays each format has.

#ifndef ADAMX_FORMATS_H_
#define ADAMX_FORMATS_H_

#include <limits>

#include "leaf.h"

namespace adamx {

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

// What a format is stored in: one number for each element, and what else there is one of for each group.

enum class Type { kF32, kBF16, kU16, kU8, kS8 };

struct Stored {
  Type code, group;
  int arrays;  // the code's and the groups'
  int bytes;   // of an element
  bool grouped, random;
};

INLINE Stored StoredAs(Format format) {
  switch (format) {
    case Format::kFloat:
      return {Type::kF32, Type::kF32, 1, 4, false, false};
    case Format::kBFloat16:
      return {Type::kBF16, Type::kBF16, 1, 2, false, false};
    case Format::kDitheredMean:
      return {Type::kBF16, Type::kBF16, 1, 2, false, true};
    case Format::kFloatCode:
      return {Type::kU16, Type::kU16, 1, 2, false, true};
    case Format::kLog:
      return {Type::kU8, Type::kU8, 3, 1, true, true};
    case Format::kRatio:
      return {Type::kS8, Type::kBF16, 2, 1, true, true};
  }
  return {};
}

inline void SetArrays(Slot& slot, void* const arrays[3]) {
  slot.code = arrays[0];
  if (slot.format == Format::kLog) {
    slot.low = static_cast<uint8_t*>(arrays[1]);
    slot.high = static_cast<uint8_t*>(arrays[2]);
  } else if (slot.format == Format::kRatio) {
    slot.scale = static_cast<uint16_t*>(arrays[1]);
  }
}

}  // namespace adamx

#endif
