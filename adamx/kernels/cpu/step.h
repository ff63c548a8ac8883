// One step of Adam's family on one leaf, in one pass over memory.
//
// A leaf is cut into blocks of whole groups that fit the first-level cache. A block is widened to float, moved by its
// rule, and narrowed again, one stage after the other; float arrays are worked on where they lie, and a leaf that has
// no others in one run. Every stage computes what the Python does, operation by operation, products and sums fused as
// XLA fuses them.

#ifndef ADAMX_STEP_H_
#define ADAMX_STEP_H_

#include "advance.h"
#include "follow.h"
#include "formats.h"
#include "weights.h"

namespace adamx {

// Blocks `first` to `last` of a leaf

template <class kTest>
INLINE bool Any(const Leaf& leaf, kTest test) {
  for (int k = 0; k < leaf.slot_count; ++k)
    if (test(leaf.slots[k].format)) return true;
  return false;
}

INLINE bool Random(const Leaf& leaf) {
  const bool coded = leaf.p_narrow && leaf.rounding != Rounding::kNearest && leaf.rounding != Rounding::kSplit16;
  return coded || Any(leaf, [](Format format) { return StoredAs(format).random; });
}

INLINE bool AllFloat(const Leaf& leaf) {
  return !leaf.g_narrow && !leaf.p_narrow && !Any(leaf, [](Format format) { return format != Format::kFloat; });
}

// Rows, each cut into blocks of one length, in whole groups; the last may be shorter. All is one row where no row ends
// within a code's group.

struct Cut {
  int64_t row, blocks, length;  // of a row, in it, of a block
};

inline Cut CutOf(const Leaf& leaf) {
  int64_t row = leaf.size;
  for (int j = 0; j < leaf.slot_count; ++j)
    if (StoredAs(leaf.slots[j].format).grouped && leaf.row * leaf.slots[j].parts % kGroup != 0) row = leaf.row;
  const int64_t blocks = (row + kBlock - 1) / kBlock, share = blocks == 0 ? 0 : (row + blocks - 1) / blocks;
  return {row, blocks, (share + kGroup - 1) / kGroup * kGroup};
}

inline int64_t BlockCount(const Leaf& leaf) {
  const Cut cut = CutOf(leaf);
  return cut.row == 0 ? 0 : leaf.size / cut.row * cut.blocks;
}

// The next block, so that it is there when its turn comes: the hardware's own guesses end with each array's part. One
// array before each stage, as all at once would wait for each other.

template <int kWritten>
INLINE void Fetch(const void* array, int groups, int bytes) {
  const char* at = static_cast<const char*>(array);
  for (int i = 0; i < groups * kGroup * bytes; i += 64) PREFETCH(at + i, kWritten);
}

// Whole groups: to float, moved by their rule, and narrowed again, one stage after the other.
FOR_EACH_MACHINE void StepGroups(const Leaf& leaf, const Block& b, const Block& next) {
  Work work;
  const float* g = leaf.g_narrow ? work.g : static_cast<const float*>(b.g);
  float* p = leaf.p_narrow ? work.p : static_cast<float*>(b.p);
  float* x[kKept];
  for (int j = 0; j < kKept; ++j) {
    const bool lies = j < leaf.slot_count && b.slots[j].format == Format::kFloat;
    x[j] = lies ? static_cast<float*>(b.slots[j].code) : work.slots[j];
  }
  const int n = (b.groups - 1) * kGroup + b.rest;
  const auto fill_up = [&](float* slot) INLINED {
    if (b.rest < kGroup) std::fill(slot + n, slot + b.groups * kGroup, 0.0f);
  };
  Fetch<0>(next.g, next.groups, leaf.g_narrow ? 2 : 4);
  if (leaf.p_narrow) LoadWeights(leaf, b, work.p);
  if (leaf.g_narrow) Widen(b.g, work.g, b.groups);
  for (bool measured : {false, true})
    for (int j = 0; j < leaf.slot_count; ++j) {
      if ((b.slots[j].unit != Unit::kNone) != measured) continue;
      Decode(b.slots[j], b.groups, n, x[kNu], x[j]);
      fill_up(x[j]);
    }
  Fetch<1>(next.p, next.groups, leaf.p_narrow ? 2 : 4);
  AdvanceLeaf(leaf, {g, p, {x[0], x[1], x[2]}, work.ordinary}, b.groups);
  if (leaf.trails > 0) Follow(leaf, p, x + leaf.slot_count - leaf.trails, b.groups * kGroup);
  for (int j = 0; j < leaf.slot_count; ++j) fill_up(x[j]);
  if (Random(leaf)) Hash(leaf, b, work.hashes);
  if (leaf.residual != nullptr) Fetch<1>(next.residual, next.groups, leaf.rounding == Rounding::kSplit8 ? 1 : 2);
  if (leaf.p_narrow) StoreWeights(leaf, b, work.p, work);
  for (int j = 0; j < leaf.slot_count; ++j) {
    const Slot& slot = b.slots[j];
    Fetch<1>(next.slots[j].code, next.groups, StoredAs(slot.format).bytes);
    const uint32_t* bits = StoredAs(slot.format).random ? Weyl(leaf, b, work, slot.turn) : nullptr;
    Encode(slot, b.groups, n, x[kNu], work.ordinary, bits, x[j]);
  }
}

inline void* Beyond(void* array, int64_t count, int64_t bytes) { return static_cast<char*>(array) + count * bytes; }

// `groups` groups from element `column`, whole groups, of a row.
inline Block BlockAt(const Leaf& leaf, int64_t line, int64_t column, int groups) {
  const int64_t at = line * leaf.row + column;
  Block b{at, groups, kGroup, nullptr, nullptr, nullptr, {}};
  b.g = Beyond(const_cast<void*>(leaf.g), at, leaf.g_narrow ? 2 : 4);
  b.p = Beyond(leaf.p, at, leaf.p_narrow ? 2 : 4);
  if (leaf.residual != nullptr) b.residual = Beyond(leaf.residual, at, leaf.rounding == Rounding::kSplit8 ? 1 : 2);
  for (int j = 0; j < std::min(leaf.slot_count, kKept); ++j) {
    Slot& slot = b.slots[j] = leaf.slots[j];
    slot.code = Beyond(slot.code, at, StoredAs(slot.format).bytes);
    int64_t group = column / kGroup * slot.parts;
    if (line > 0) group += line * ((leaf.row * slot.parts + kGroup - 1) / kGroup);
    slot.low += group;
    slot.high += group;
    slot.scale += group;
  }
  return b;
}

// A group of which there are only `rest` elements is stepped in a copy that is filled up with zeros.
inline void StepRest(const Leaf& leaf, const Block& there, int rest) {
  struct {
    alignas(64) char arrays[3 + kKept][kGroup * sizeof(float)];
  } copy{};
  Block b = there;
  b.rest = rest;
  struct Moved {
    void* from;
    size_t bytes;
  } moved[3 + kKept];
  int count = 0;
  const auto move = [&](void* from, int64_t bytes) -> void* {
    moved[count] = {from, static_cast<size_t>(rest * bytes)};
    std::memcpy(copy.arrays[count], from, moved[count].bytes);
    return copy.arrays[count++];
  };
  b.g = move(const_cast<void*>(there.g), leaf.g_narrow ? 2 : 4);
  b.p = move(there.p, leaf.p_narrow ? 2 : 4);
  if (leaf.residual != nullptr) b.residual = move(there.residual, leaf.rounding == Rounding::kSplit8 ? 1 : 2);
  for (int j = 0; j < leaf.slot_count; ++j)
    b.slots[j].code = move(there.slots[j].code, StoredAs(there.slots[j].format).bytes);
  Block none = b;
  none.groups = 0;
  StepGroups(leaf, b, none);
  for (int k = 1; k < count; ++k) std::memcpy(moved[k].from, copy.arrays[k], moved[k].bytes);
}

inline void StepFloats(const Leaf& leaf, int64_t begin, int64_t end) {  // in one run over memory
  if (begin >= end) return;
  Floats floats{static_cast<const float*>(leaf.g) + begin, static_cast<float*>(leaf.p) + begin, {}, nullptr};
  for (int j = 0; j < leaf.slot_count - leaf.trails; ++j) floats.slots[j] = static_cast<float*>(leaf.slots[j].code) + begin;
  const int64_t groups = (end - begin) / kGroup;
  const int rest = static_cast<int>((end - begin) % kGroup);
  AdvanceLeaf(leaf, floats, groups);
  float* averages[kTrails];
  for (int j = 0; j < leaf.trails; ++j)
    averages[j] = static_cast<float*>(leaf.slots[leaf.slot_count - leaf.trails + j].code) + begin;
  if (leaf.trails > 0) Follow(leaf, floats.p, averages, groups * kGroup);
  if (rest > 0) StepRest(leaf, BlockAt(leaf, 0, end - rest, 1), rest);
}

inline void StepCodes(const Leaf& leaf, int64_t first, int64_t last) {
  if (first >= last) return;
  const Cut cut = CutOf(leaf);
  struct Place {
    int64_t line, column, n;
  };
  const auto place = [&](int64_t k) -> Place {
    const int64_t line = k / cut.blocks, column = (k - line * cut.blocks) * cut.length;
    return {line, column, std::min(cut.length, cut.row - column)};
  };
  const auto block = [&](Place at) { return BlockAt(leaf, at.line, at.column, static_cast<int>(at.n / kGroup)); };
  Place here = place(first);
  Block b = block(here);
  for (int64_t k = first; k < last; ++k) {
    const Place there = place(std::min(k + 1, last - 1));
    const Block next = block(there);
    if (b.groups > 0) StepGroups(leaf, b, next);
    const int rest = static_cast<int>(here.n % kGroup);
    if (rest > 0) StepRest(leaf, BlockAt(leaf, here.line, here.column + here.n - rest, 1), rest);
    here = there;
    b = next;
  }
}

inline void StepBlocks(const Leaf& leaf, int64_t first, int64_t last) {
  if (!AllFloat(leaf)) return StepCodes(leaf, first, last);
  const int64_t length = CutOf(leaf).length, end = std::min(last * length, leaf.size);
  if (leaf.trails == 0) return StepFloats(leaf, first * length, end);
  for (int64_t at = first * length; at < end; at += kRun) StepFloats(leaf, at, std::min(at + kRun, end));
}

template <class Pool>
void Step(const Leaf& leaf, Pool& pool) {
  // Eight parts for each thread, of 8,192 to half a million elements: long enough for steady streams from memory.
  constexpr int64_t least = 8192 / kBlock, most = 524288 / kBlock;
  const int64_t blocks = BlockCount(leaf), threads = std::max<int64_t>(pool.num_threads(), 1);
  const int64_t part = std::min(std::max(blocks / (8 * threads), least), most);
  InParts((blocks + part - 1) / part, pool,
          [&leaf, part, blocks](int64_t i) { StepBlocks(leaf, i * part, std::min((i + 1) * part, blocks)); });
}

}  // namespace adamx

#endif
