// One step of Adam's family on one leaf, in one pass over memory.
//
// A leaf is cut into blocks that fit the first-level cache. A block is widened to float, moved by its rule, and narrowed
// again, one stage after the other; float arrays are worked on where they lie, and a leaf that has no others in one run.
// Every stage computes what the Python does, operation by operation, products and sums fused as XLA fuses them.

#ifndef ADAMX_STEP_H_
#define ADAMX_STEP_H_

#include "formats.h"
#include "rules.h"
#include "weights.h"

namespace adamx {

// Blocks `first` to `last` of a leaf

template <class kTest>
INLINE bool Any(const Leaf& leaf, kTest test) {
  for (int k = 0; k < leaf.slot_count; ++k)
    if (test(leaf.slots[k].format)) return true;
  return false;
}

INLINE bool Grouped(const Leaf& leaf) {
  return Any(leaf, [](Format format) { return StoredAs(format).grouped; });
}

INLINE bool Random(const Leaf& leaf) {
  const bool coded = leaf.p_narrow && leaf.rounding != Rounding::kNearest && leaf.rounding != Rounding::kSplit16;
  return coded || Any(leaf, [](Format format) { return StoredAs(format).random; });
}

INLINE bool AllFloat(const Leaf& leaf) {
  return !leaf.g_narrow && !leaf.p_narrow && !Any(leaf, [](Format format) { return format != Format::kFloat; });
}

// Rows, each cut into blocks of one length, in whole groups; the last may be shorter. Without groups all is one row.

struct Cut {
  int64_t row, blocks, length;  // of a row, in it, of a block
};

inline Cut CutOf(const Leaf& leaf) {
  const int64_t row = Grouped(leaf) ? leaf.row : leaf.size;
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
INLINE void Fetch(const void* array, int64_t first, int64_t count, int64_t bytes) {
  const char* at = static_cast<const char*>(array) + first * bytes;
  for (int64_t i = 0; i < count * bytes; i += 64) PREFETCH(at + i, kWritten);
}

inline void StepFloats(const Leaf& leaf, int64_t first, int64_t last) {  // in one run over memory
  const int64_t length = CutOf(leaf).length, begin = first * length, end = std::min(last * length, leaf.size);
  if (begin >= end) return;
  Floats floats{static_cast<const float*>(leaf.g) + begin, static_cast<float*>(leaf.p) + begin, {}};
  for (int j = 0; j < leaf.slot_count; ++j) floats.slots[j] = static_cast<float*>(leaf.slots[j].code) + begin;
  AdvanceLeaf(leaf, floats, end - begin);
}

FOR_EACH_MACHINE void StepCodes(const Leaf& leaf, int64_t first, int64_t last) {
  const Cut cut = CutOf(leaf);
  alignas(64) float g[kBlock], p[kBlock], unit[kBlock], slots[kSlots][kBlock];
  alignas(64) uint32_t hashes[kBlock];
  const int64_t groups = (cut.row + kGroup - 1) / kGroup;
  for (int64_t k = first; k < last; ++k) {
    const int64_t line = k / cut.blocks, column = (k - line * cut.blocks) * cut.length;
    Block b;
    b.at = line * cut.row + column;
    b.group = line * groups + column / kGroup;
    b.n = static_cast<int>(std::min(cut.length, cut.row - column));
    b.unit = unit;
    b.hashes = hashes;
    b.g = leaf.g_narrow ? g : const_cast<float*>(static_cast<const float*>(leaf.g)) + b.at;
    b.p = leaf.p_narrow ? p : static_cast<float*>(leaf.p) + b.at;
    for (int j = 0; j < kSlots; ++j) {
      const bool lies = j < leaf.slot_count && leaf.slots[j].format == Format::kFloat;
      b.slots[j] = lies ? static_cast<float*>(leaf.slots[j].code) + b.at : slots[j];
    }
    const int64_t next = b.at + b.n, count = k + 1 < last ? cut.length : 0;
    Fetch<0>(leaf.g, next, count, leaf.g_narrow ? 2 : 4);
    LoadWeights(leaf, b);
    LoadGradients(leaf, b);
    for (bool measured : {false, true})
      for (int j = 0; j < leaf.slot_count; ++j)
        if ((leaf.slots[j].unit != Unit::kNone) == measured) Decode(leaf.slots[j], b, b.slots[j]);
    Fetch<1>(leaf.p, next, count, leaf.p_narrow ? 2 : 4);
    AdvanceLeaf(leaf, {b.g, b.p, {b.slots[0], b.slots[1], b.slots[2]}}, b.n);
    if (Random(leaf)) Hash(leaf, b);
    if (leaf.residual != nullptr) Fetch<1>(leaf.residual, next, count, leaf.rounding == Rounding::kSplit8 ? 1 : 2);
    StoreWeights(leaf, b);
    for (int j = 0; j < leaf.slot_count; ++j) {
      const Slot& slot = leaf.slots[j];
      Fetch<1>(slot.code, next, count, StoredAs(slot.format).bytes);
      Encode(slot, b, b.slots[j], NoiseOf(leaf, b, slot.turn));
    }
  }
}

inline void StepBlocks(const Leaf& leaf, int64_t first, int64_t last) {
  return AllFloat(leaf) ? StepFloats(leaf, first, last) : StepCodes(leaf, first, last);
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
