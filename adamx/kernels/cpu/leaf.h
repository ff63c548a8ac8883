// One leaf of a step, a block of it, and its random bits.

#ifndef ADAMX_LEAF_H_
#define ADAMX_LEAF_H_

#include <cmath>

#include "interface.h"
#include "machine.h"

namespace adamx {

constexpr int kGroup = 128;
constexpr int kSpan = 40;
constexpr int kBlock = 512;
constexpr int kGroups = kBlock / kGroup;
constexpr int kSlots = 3;
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
  int turn = 0;
};

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
  uint32_t count, key;
  int turn;  // of the weight's bits; each slot has its own
  int slot_count;
  Slot slots[kSlots];
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

// A purpose's random bits: an element's hash, turned, to which the step is added.

struct Noise {
  const uint32_t* RESTRICT hashes;
  int turn;
  uint32_t weyl;     // the step's number times the golden ratio
  uint32_t uniform;  // and it, mixed
};

INLINE uint32_t Turned(uint32_t hash, int turn) { return (hash << turn) | (hash >> (-turn & 31)); }
INLINE uint32_t Weyl(Noise noise, int i) { return Turned(noise.hashes[i], noise.turn) + noise.weyl; }
INLINE uint32_t Uniform(Noise noise, int i) {
  return Mixed(Turned(noise.hashes[i], noise.turn) + noise.uniform);
}

INLINE float UnitInterval(uint32_t bits) { return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1p-24f; }

// Arithmetic

INLINE float DivNoNan(float x, float y) { return y == 0 ? 0 * x : x / y; }

// A part of a row: where it begins, and what is worked on there

struct Block {
  int64_t at;      // the number of its first element
  int64_t group;   // of its first group
  int n;
  float* g;
  float* p;
  float* unit;
  uint32_t* hashes;
  float* slots[kSlots];
};

INLINE Noise NoiseOf(const Leaf& leaf, const Block& b, int turn) {
  return {b.hashes, turn, leaf.count * kGolden, Mixed(leaf.count ^ kGolden)};
}

INLINE void Hash(const Leaf& leaf, const Block& b) {
  const uint32_t index = static_cast<uint32_t>(b.at);
  for (int i = 0; i < b.n; ++i) b.hashes[i] = Mixed((index + i) ^ leaf.key);
}

}  // namespace adamx

#endif
