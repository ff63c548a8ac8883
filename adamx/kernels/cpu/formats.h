// How slots are stored: which code each format is, and what arrays it has.

#ifndef ADAMX_FORMATS_H_
#define ADAMX_FORMATS_H_

#include "codes.h"
#include "weights.h"

namespace adamx {

// `then(length of a slot's groups)`: the compiler makes a version for each length, or one for all but the longest.
template <bool kEach, class Then>
INLINE void Lengths(const Slot& slot, const Then& then) {
  if (slot.parts == 1) return then(kGroup);
  if (!kEach) return then(kGroup / slot.parts);
  if (slot.parts == 2) return then(kGroup / 2);
  then(kGroup / 4);
}

// Of `n` elements in groups, the last of which may be a part of one.

INLINE void DecodeLogs(const Slot& slot, int length, int n, float* x) {
  const uint8_t* code = static_cast<const uint8_t*>(slot.code);
  for (int k = 0, at = 0; at < n; ++k, at += length) DecodeLog(code + at, slot.low[k], slot.high[k], length, x + at);
}

template <Unit kUnit, bool kFuses = false>
INLINE void DecodeRatios(const Slot& slot, int length, int n, const float* nu, float* x) {
  const int8_t* code = static_cast<const int8_t*>(slot.code);
  for (int k = 0, at = 0; at < n; ++k, at += length)
    DecodeRatio<kUnit, kFuses>(code + at, Widened(slot.scale[k]), nu + at, length, x + at);
}

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
      return Lengths<true>(slot, [&](int length) INLINED { DecodeLogs(slot, length, n, x); });
    case Format::kRatio:
      if (slot.unit == Unit::kRoot && Fuses())
        return Lengths<true>(
            slot, [&](int length) INLINED { DecodeRatios<Unit::kRoot, true>(slot, length, n, nu, x); });
      return Lengths<false>(slot, [&](int length) INLINED {
        if (slot.unit == Unit::kNone) return DecodeRatios<Unit::kNone>(slot, length, n, nu, x);
        if (slot.unit == Unit::kItself) return DecodeRatios<Unit::kItself>(slot, length, n, nu, x);
        return DecodeRatios<Unit::kRoot>(slot, length, n, nu, x);
      });
  }
}

// Of all groups the ends first: finding one's waits for the last of its elements.
INLINE void EncodeLogs(const Slot& slot, int length, int n, const uint32_t* bits, const float* x) {
  Ends ends[4 * kGroups];
  for (int k = 0, at = 0; at < n; ++k, at += length) ends[k] = EndsOf(x + at, length);
  for (int k = 0, at = 0; at < n; ++k, at += length) {
    EncodeLog(x + at, bits + at, ends[k], length, static_cast<uint8_t*>(slot.code) + at);
    slot.low[k] = static_cast<uint8_t>(ends[k].broken ? 255 : ends[k].low);
    slot.high[k] = static_cast<uint8_t>(ends[k].high);
  }
}

template <Unit kUnit>
INLINE void EncodeRatiosCarefully(const Slot& slot, int length, int n, const float* nu, const uint32_t* bits,
                                  const float* x) {
  int8_t* code = static_cast<int8_t*>(slot.code);
  for (int k = 0, at = 0; at < n; ++k, at += length)
    EncodeRatioCarefully<kUnit>(x + at, nu + at, bits + at, length, code + at, slot.scale[k]);
}

INLINE void EncodeRatios(const Slot& slot, int length, int n, const float* nu, const bool* ordinary,
                         const uint32_t* bits, const float* x) {
  int8_t* code = static_cast<int8_t*>(slot.code);
  alignas(64) float ratios[kBlock];
  float scales[4 * kGroups];
  for (int k = 0, at = 0; at < n; ++k, at += length)
    scales[k] = ordinary[at / kGroup] ? RatiosOf(x + at, nu + at, length, ratios + at) : 0;
  for (int k = 0, at = 0; at < n; ++k, at += length) {
    if (scales[k] != 0 && EncodeRatioQuickly(ratios + at, scales[k], bits + at, length, code + at))
      slot.scale[k] = Narrowed(scales[k]);
    else
      EncodeRatioCarefully<Unit::kRoot>(x + at, nu + at, bits + at, length, code + at, slot.scale[k]);
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
      return Lengths<true>(slot, [&](int length) INLINED { EncodeLogs(slot, length, n, bits, x); });
    case Format::kRatio:
      if (slot.unit == Unit::kRoot)
        return Lengths<true>(slot, [&](int length) INLINED { EncodeRatios(slot, length, n, nu, ordinary, bits, x); });
      return Lengths<false>(slot, [&](int length) INLINED {
        if (slot.unit == Unit::kNone) return EncodeRatiosCarefully<Unit::kNone>(slot, length, n, nu, bits, x);
        EncodeRatiosCarefully<Unit::kItself>(slot, length, n, nu, bits, x);
      });
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
