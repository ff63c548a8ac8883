// One leaf of a step, a part of it, and its random bits.

#ifndef ADAMX_LEAF_H_
#define ADAMX_LEAF_H_

#include <cmath>

#include "interface.h"
#include "machine.h"

namespace adamx {

constexpr int kGroup = 128;  // every loop is over so many: none has a rest
constexpr int kSpan = 40;
constexpr int kBlock = 512;
constexpr int kGroups = kBlock / kGroup;
constexpr int kSlots = 3;  // of a rule
constexpr int kKept = kSlots + kTrails;
constexpr int kNu = 1;  // the slot that units are made of
constexpr int32_t kOctave = 1 << 23;
constexpr int32_t kQuarter = kOctave / 4;
constexpr uint32_t kInfinity = 0x7F800000u;
constexpr uint32_t kQuiet = 0x40u;  // makes a bfloat16's NaN of what would become infinity
constexpr uint32_t kGolden = 0x9E3779B9u;

struct Slot {
  Format format = Format::kFloat;
  Unit unit = Unit::kNone;
  void* code = nullptr;
  uint8_t* low = nullptr;
  uint8_t* high = nullptr;
  uint16_t* scale = nullptr;
  int parts = 1;  // of kGroup elements, with ends or a scale each
  int turn = 0;
};

// `g`, `p`, `residual` and the slots' arrays are those of the first element. This may be a part of a leaf: random bits are
// those of an element's number in the whole.

struct Leaf {
  Scalars scalars;
  Rule rule;
  int flags;
  Decay decay;
  Rounding rounding;
  int64_t size, row;  // elements in all, and along the last axis
  const void* g;
  bool g_narrow;      // bfloat16
  void* p;
  bool p_narrow;
  void* residual;
  uint32_t count, key, first;  // the number of the first element
  int64_t axis_count;          // 0 where elements are numbered one after the other
  const int64_t* axes;         // of each, outermost first, its length and by how much numbers grow along it
  int turn;  // of the weight's bits; each slot has its own
  int slot_count, trails;  // the last of the slots are averages
  Slot slots[kKept];
};

// Bits

INLINE float Widened(uint32_t x) { return Float(static_cast<int32_t>(x << 16)); }

INLINE uint16_t Narrowed(float x) {  // to the nearest bfloat16, ties to even
  const uint32_t raw = static_cast<uint32_t>(Bits(x));
  const uint32_t rounded = (raw + 0x7FFFu + ((raw >> 16) & 1u)) >> 16;
  const uint32_t nan = (raw >> 16) | 0x40u;
  return static_cast<uint16_t>((raw & 0x7FFFFFFFu) > static_cast<uint32_t>(kInfinite) ? nan : rounded);
}

INLINE uint32_t Mixed(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  return x ^ (x >> 16);
}

INLINE uint32_t Turned(uint32_t hash, int turn) { return (hash << turn) | (hash >> (-turn & 31)); }
INLINE float UnitInterval(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f; }

// Arithmetic

INLINE float DivNoNan(float x, float y) { return y == 0 ? 0 * x : x / y; }

// What is worked on: whole groups of a leaf, one after the other in memory. A group that is shorter than the others is
// a copy, filled up with zeros, which must not be heard of in what the group shares.

struct Block {
  int64_t at;     // the number of the first element in the leaf
  int groups;
  int rest;       // elements of the last group, at least 1
  const void* g;
  void* p;
  void* residual;
  Slot slots[kKept];
};

// It in float, and its random bits.

struct Work {
  alignas(64) float g[kBlock], p[kBlock], unit[kBlock], slots[kKept][kBlock];
  alignas(64) uint32_t hashes[kBlock], bits[kBlock];
  bool ordinary[kGroups];
};

// Of a part whose elements do not follow each other in the whole leaf, along the innermost axis at a time.
FOR_EACH_MACHINE void HashRuns(const Leaf& leaf, const Block& b, uint32_t* RESTRICT hashes) {
  const int64_t* const last = leaf.axes + 2 * (leaf.axis_count - 1);
  const uint32_t stride = static_cast<uint32_t>(last[1]);
  for (int64_t at = b.at, end = at + (b.groups - 1) * kGroup + b.rest; at < end;) {
    uint32_t number = leaf.first;
    int64_t outer = at;
    for (const int64_t* axis = last; axis >= leaf.axes; outer /= *axis, axis -= 2)
      number += static_cast<uint32_t>(outer % axis[0]) * static_cast<uint32_t>(axis[1]);
    const int n = static_cast<int>(std::min(end - at, last[0] - at % last[0]));
    for (int i = 0; i < n; ++i) hashes[i] = Mixed((number + static_cast<uint32_t>(i) * stride) ^ leaf.key);
    at += n;
    hashes += n;
  }
  std::fill(hashes, hashes + (kGroup - b.rest), 0u);
}

INLINE void Hash(const Leaf& leaf, const Block& b, uint32_t* RESTRICT hashes) {
  if (leaf.axis_count > 0) return HashRuns(leaf, b, hashes);
  uint32_t index = leaf.first + static_cast<uint32_t>(b.at);
  for (int k = 0; k < b.groups; ++k, index += kGroup, hashes += kGroup)
    for (int i = 0; i < kGroup; ++i) hashes[i] = Mixed((index + static_cast<uint32_t>(i)) ^ leaf.key);
}

// The random bits of a purpose: an element's hash, turned, to which the step's number is added, times the golden ratio
// (a Weyl sequence) or mixed.

template <bool kMixed>
INLINE void Draw(const uint32_t* RESTRICT hashes, int turn, uint32_t step, uint32_t* RESTRICT bits, int groups) {
  for (int k = 0; k < groups; ++k, hashes += kGroup, bits += kGroup)
    for (int i = 0; i < kGroup; ++i) {
      const uint32_t sum = Turned(hashes[i], turn) + step;
      bits[i] = kMixed ? Mixed(sum) : sum;
    }
}

template <bool kMixed>
INLINE const uint32_t* Drawn(const Leaf& leaf, const Block& b, Work& work, int turn) {
  const uint32_t step = kMixed ? Mixed(leaf.count ^ kGolden) : leaf.count * kGolden;
  switch (turn) {  // known to the compiler, it is one instruction
    case 0:
      Draw<kMixed>(work.hashes, 0, step, work.bits, b.groups);
      break;
    case 8:
      Draw<kMixed>(work.hashes, 8, step, work.bits, b.groups);
      break;
    case 16:
      Draw<kMixed>(work.hashes, 16, step, work.bits, b.groups);
      break;
    default:
      Draw<kMixed>(work.hashes, turn, step, work.bits, b.groups);
  }
  return work.bits;
}

INLINE const uint32_t* Weyl(const Leaf& leaf, const Block& b, Work& work, int turn) {
  return Drawn<false>(leaf, b, work, turn);
}

INLINE const uint32_t* Uniform(const Leaf& leaf, const Block& b, Work& work, int turn) {
  return Drawn<true>(leaf, b, work, turn);
}

}  // namespace adamx

#endif
