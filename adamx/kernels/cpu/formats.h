// How slots are stored: which code each format is, and what arrays it has.

#ifndef ADAMX_FORMATS_H_
#define ADAMX_FORMATS_H_

#include <type_traits>

#include "codes.h"
#include "weights.h"

namespace adamx {

// How long a slot's groups are, from what is known of it to what the compiler knows. Of the last there may be a part.
template <class Then>
INLINE void Lengths(const Slot& slot, const Then& then) {
  if (slot.parts == 4) return then(std::integral_constant<int, kGroup / 4>());
  if (slot.parts == 2) return then(std::integral_constant<int, kGroup / 2>());
  then(std::integral_constant<int, kGroup>());
}

template <int kLength>
INLINE void DecodeLogs(const Slot& slot, int n, float* x) {
  const uint8_t* code = static_cast<const uint8_t*>(slot.code);
  for (int k = 0, at = 0; at < n; ++k, at += kLength) DecodeLog<kLength>(code + at, slot.low[k], slot.high[k], x + at);
}

template <int kLength, Unit kUnit, bool kFuses = false>
INLINE void DecodeRatios(const Slot& slot, int n, const float* nu, float* x) {
  const int8_t* code = static_cast<const int8_t*>(slot.code);
  for (int k = 0, at = 0; at < n; ++k, at += kLength)
    DecodeRatio<kLength, kUnit, kFuses>(code + at, Widened(slot.scale[k]), nu + at, x + at);
}

// The `n` elements of whole groups but for the last.
INLINE void Decode(const Slot& slot, int groups, int n, const float* nu, float* x) {
  switch (slot.format) {
    case Format::kFloat:
      return;
    case Format::kBFloat16:
    case Format::kDitheredMean:
      return Widen(slot.code, x, groups);
    case Format::kFloatCode: {
      const uint16_t* code = static_cast<const uint16_t*>(slot.code);
      for (int at = 0; at < groups * kGroup; at += kGroup) DecodeFloatCode(code + at, x + at);
      return;
    }
    case Format::kLog:
      return Lengths(slot, [&](auto length) INLINED { DecodeLogs<length.value>(slot, n, x); });
    case Format::kRatio:
      return Lengths(slot, [&](auto length) INLINED {
        if (slot.unit == Unit::kNone) return DecodeRatios<length.value, Unit::kNone>(slot, n, nu, x);
        if (slot.unit == Unit::kItself) return DecodeRatios<length.value, Unit::kItself>(slot, n, nu, x);
        if (Fuses()) return DecodeRatios<length.value, Unit::kRoot, true>(slot, n, nu, x);
        return DecodeRatios<length.value, Unit::kRoot>(slot, n, nu, x);
      });
  }
}

// Of all groups the ends first: finding one's waits for the last of its elements.
template <int kLength>
INLINE void EncodeLogs(const Slot& slot, int n, const uint32_t* bits, const float* x) {
  Ends ends[kBlock / kLength];
  for (int k = 0, at = 0; at < n; ++k, at += kLength) ends[k] = EndsOf<kLength>(x + at);
  for (int k = 0, at = 0; at < n; ++k, at += kLength) {
    EncodeLog<kLength>(x + at, bits + at, ends[k], static_cast<uint8_t*>(slot.code) + at);
    slot.low[k] = static_cast<uint8_t>(ends[k].broken ? 255 : ends[k].low);
    slot.high[k] = static_cast<uint8_t>(ends[k].high);
  }
}

template <Unit kUnit>
INLINE void EncodeRatiosCarefully(const Slot& slot, int n, const float* nu, const uint32_t* bits, const float* x) {
  int8_t* code = static_cast<int8_t*>(slot.code);
  const int length = kGroup / slot.parts;
  for (int k = 0, at = 0; at < n; ++k, at += length)
    EncodeRatioCarefully<kUnit>(x + at, nu + at, bits + at, length, code + at, slot.scale[k]);
}

template <int kLength>
INLINE void EncodeRatios(const Slot& slot, int n, const float* nu, const bool* ordinary, const uint32_t* bits,
                         const float* x) {
  int8_t* code = static_cast<int8_t*>(slot.code);
  alignas(64) float ratios[kBlock];
  float scales[kBlock / kLength];
  for (int k = 0, at = 0; at < n; ++k, at += kLength)
    scales[k] = ordinary[at / kGroup] ? RatiosOf<kLength>(x + at, nu + at, ratios + at) : 0;
  for (int k = 0, at = 0; at < n; ++k, at += kLength) {
    if (scales[k] != 0 && EncodeRatioQuickly<kLength>(ratios + at, scales[k], bits + at, code + at))
      slot.scale[k] = Narrowed(scales[k]);
    else
      EncodeRatioCarefully<Unit::kRoot>(x + at, nu + at, bits + at, kLength, code + at, slot.scale[k]);
  }
}

INLINE void Encode(const Slot& slot, int groups, int n, const float* nu, const bool* ordinary, const uint32_t* bits,
                   const float* x) {
  switch (slot.format) {
    case Format::kFloat:
      return;
    case Format::kBFloat16:
      return Narrow(x, slot.code, groups);
    case Format::kDitheredMean: {
      uint16_t* code = static_cast<uint16_t*>(slot.code);
      for (int at = 0; at < groups * kGroup; at += kGroup) EncodeMean(x + at, bits + at, code + at);
      return;
    }
    case Format::kFloatCode: {
      uint16_t* code = static_cast<uint16_t*>(slot.code);
      for (int at = 0; at < groups * kGroup; at += kGroup) EncodeFloatCode(x + at, bits + at, code + at);
      return;
    }
    case Format::kLog:
      return Lengths(slot, [&](auto length) INLINED { EncodeLogs<length.value>(slot, n, bits, x); });
    case Format::kRatio:
      if (slot.unit == Unit::kNone) return EncodeRatiosCarefully<Unit::kNone>(slot, n, nu, bits, x);
      if (slot.unit == Unit::kItself) return EncodeRatiosCarefully<Unit::kItself>(slot, n, nu, bits, x);
      return Lengths(slot, [&](auto length) INLINED { EncodeRatios<length.value>(slot, n, nu, ordinary, bits, x); });
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
