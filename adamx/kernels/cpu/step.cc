// A step's call by XLA: its operands are checked and made leaves of.

#include "step.h"
#include "xla/ffi/api/ffi.h"

namespace adamx {

namespace ffi = xla::ffi;

template <class T>
T* Part(const ffi::AnyBuffer& buffer, int64_t batch, int64_t batches) {
  return static_cast<T*>(buffer.untyped_data()) + batch * (static_cast<int64_t>(buffer.element_count()) / batches);
}

inline void* Part(const ffi::AnyBuffer& buffer, int64_t batch, int64_t batches) {
  return Part<char>(buffer, 0, 1) + batch * (static_cast<int64_t>(buffer.size_bytes()) / batches);
}

// What is changed in place, in order: operands from `in`, results from the first. One that is not as it should be is
// remembered, and nothing may be written then.
class InPlace {
 public:
  InPlace(ffi::RemainingArgs args, ffi::RemainingRets rets, size_t in) : args_(args), rets_(rets), in_(in) {}

  ffi::AnyBuffer Next(ffi::DataType type, int64_t count) {
    const ffi::AnyBuffer in = *args_.get<ffi::AnyBuffer>(in_++), out = **rets_.get<ffi::AnyBuffer>(out_++);
    as_said_ = as_said_ && Is(in, type, count) && Is(out, type, count);
    if (as_said_ && in.untyped_data() != out.untyped_data())
      std::memcpy(out.untyped_data(), in.untyped_data(), in.size_bytes());
    return out;
  }

  ffi::AnyBuffer Peek() const { return *args_.get<ffi::AnyBuffer>(in_); }
  bool AsSaid() const { return as_said_; }

  static bool Is(const ffi::AnyBuffer& buffer, ffi::DataType type, int64_t count) {
    return buffer.element_type() == type && static_cast<int64_t>(buffer.element_count()) == count;
  }

 private:
  ffi::RemainingArgs args_;
  ffi::RemainingRets rets_;
  size_t in_, out_ = 0;
  bool as_said_ = true;
};

inline bool IsNarrow(const ffi::AnyBuffer& buffer) { return buffer.element_type() == ffi::BF16; }
inline ffi::DataType FloatType(bool narrow) { return narrow ? ffi::BF16 : ffi::F32; }

inline ffi::DataType TypeOf(Type type) {
  switch (type) {
    case Type::kF32:
      return ffi::F32;
    case Type::kBF16:
      return ffi::BF16;
    case Type::kU16:
      return ffi::U16;
    case Type::kU8:
      return ffi::U8;
    default:
      return ffi::S8;
  }
}

inline ffi::DataType TypeOf(Rounding rounding) {
  return rounding == Rounding::kKahan ? ffi::BF16 : rounding == Rounding::kSplit8 ? ffi::S8 : ffi::S16;
}

constexpr int64_t kBits = 4;  // numbers of a leaf

// What all leaves of a call share.
struct Kind {
  int64_t rule, flags, decay, rounding, trails;
  ffi::Span<const int64_t> formats, groups, units, turns;

  bool Keeps() const { return static_cast<Rounding>(rounding) > Rounding::kStochastic; }

  // Whether there is a number for each slot, and groups have lengths that there are loops for.
  bool Whole() const {
    for (int64_t length : groups)
      if (length != 0 && length != kGroup / 4 && length != kGroup / 2 && length != kGroup) return false;
    const int64_t slots = static_cast<int64_t>(formats.size());
    return trails >= 0 && trails <= std::min<int64_t>(slots, kTrails) && slots - trails <= kSlots &&
           formats.size() == units.size() && formats.size() == groups.size() && formats.size() + 1 == turns.size();
  }

  size_t Arrays() const {  // of a leaf, changed in place
    size_t arrays = Keeps() ? 2 : 1;
    for (int64_t format : formats) arrays += static_cast<size_t>(StoredAs(static_cast<Format>(format)).arrays);
    return arrays;
  }
};

// How the elements of each leaf are numbered: the number of its axes, then each axis's length and stride.
class Axes {
 public:
  explicit Axes(ffi::Span<const int64_t> numbers) : next_(numbers.begin()), end_(numbers.end()) {}

  bool Next(Leaf& leaf) {  // false if they are not so
    if (next_ == end_) return false;
    leaf.axis_count = *next_++;
    leaf.axes = next_;
    if (leaf.axis_count < 0 || leaf.axis_count > (end_ - next_) / 2) return false;
    for (int64_t k = 0; k < leaf.axis_count; ++k, next_ += 2)
      if (next_[0] <= 0) return false;
    return true;
  }

 private:
  const int64_t *next_, *end_;
};

// One leaf, once for each batch. Its bits are the step's number, its key, its first element's number and the row of its
// scalars. False if its arrays are not those that its kind has, and then nothing was done.
bool StepLeaf(const Kind& kind, const ffi::AnyBuffer& scalars, const ffi::AnyBuffer& bits, int64_t number,
              const ffi::AnyBuffer& g, Axes& axes, InPlace& in_place, int64_t batches, ffi::ThreadPool& pool) {
  const int64_t all = static_cast<int64_t>(g.element_count()), size = all / batches;
  const auto dimensions = g.dimensions();
  const int64_t row = dimensions.size() == 0 ? 1 : std::min(size, dimensions.back());
  const auto groups = [&](int64_t length) { return row * length == 0 ? 0 : all / row * ((row + length - 1) / length); };
  const bool p_narrow = IsNarrow(in_place.Peek());
  const ffi::AnyBuffer p = in_place.Next(FloatType(p_narrow), all);
  const ffi::AnyBuffer residual = kind.Keeps() ? in_place.Next(TypeOf(static_cast<Rounding>(kind.rounding)), all) : p;
  ffi::AnyBuffer arrays[kKept][3] = {{p, p, p}, {p, p, p}, {p, p, p}, {p, p, p}, {p, p, p}};
  for (size_t k = 0; k < kind.formats.size(); ++k) {
    const Stored stored = StoredAs(static_cast<Format>(kind.formats[k]));
    arrays[k][0] = in_place.Next(TypeOf(stored.code), all);
    for (int j = 1; j < stored.arrays; ++j) arrays[k][j] = in_place.Next(TypeOf(stored.group), groups(kind.groups[k]));
  }
  Leaf leaf{};
  if (!axes.Next(leaf) || !in_place.AsSaid() || !InPlace::Is(g, FloatType(IsNarrow(g)), all) ||
      (kind.Keeps() && !p_narrow))
    return false;
  if (size == 0) return true;
  leaf.rule = static_cast<Rule>(kind.rule);
  leaf.flags = static_cast<int>(kind.flags);
  leaf.rounding = static_cast<Rounding>(kind.rounding);
  leaf.size = size;
  leaf.row = row;
  leaf.trails = static_cast<int>(kind.trails);
  leaf.g_narrow = IsNarrow(g);
  leaf.p_narrow = p_narrow;
  leaf.slot_count = static_cast<int>(kind.formats.size());
  leaf.turn = static_cast<int>(kind.turns[kind.formats.size()]);
  for (int64_t i = 0; i < batches; ++i) {
    const uint32_t* const of_leaf = Part<uint32_t>(bits, i, batches) + kBits * number;
    const int64_t place = kScalars * of_leaf[3], rows = static_cast<int64_t>(scalars.element_count()) / batches;
    if (place + kScalars > rows) return false;
    std::memcpy(&leaf.scalars, Part<float>(scalars, i, batches) + place, sizeof(Scalars));
    leaf.decay = leaf.scalars.weight_decay == 0 ? Decay::kNone : static_cast<Decay>(kind.decay);
    leaf.g = Part(g, i, batches);
    leaf.p = Part(p, i, batches);
    leaf.residual = kind.Keeps() ? Part(residual, i, batches) : nullptr;
    leaf.count = of_leaf[0];
    leaf.key = of_leaf[1];
    leaf.first = of_leaf[2];
    for (int k = 0; k < leaf.slot_count; ++k) {
      Slot& slot = leaf.slots[k];
      slot.format = static_cast<Format>(kind.formats[k]);
      slot.unit = slot.format == Format::kRatio ? static_cast<Unit>(kind.units[k]) : Unit::kNone;
      if (kind.groups[k] != 0) slot.parts = static_cast<int>(kGroup / kind.groups[k]);
      slot.turn = static_cast<int>(kind.turns[k]);
      void* const parts[] = {Part(arrays[k][0], i, batches), Part(arrays[k][1], i, batches),
                             Part(arrays[k][2], i, batches)};
      SetArrays(slot, parts);
    }
    Step(leaf, pool);
  }
  return true;
}

// The operands are rows of scalars, every leaf's bits, every leaf's gradient, then leaf by leaf what is changed in place:
// parameter, residual if any, and every slot's arrays.
ffi::Error StepLeaves(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t version,
                      int64_t rule, int64_t flags, int64_t decay, int64_t rounding, int64_t trails,
                      ffi::Span<const int64_t> formats,
                      ffi::Span<const int64_t> groups, ffi::Span<const int64_t> units, ffi::Span<const int64_t> turns,
                      ffi::Span<const int64_t> axes) {
  if (version != kVersion) return ffi::Error::InvalidArgument(kOtherVersion);
  const Kind kind{rule, flags, decay, rounding, trails, formats, groups, units, turns};
  if (!kind.Whole()) return ffi::Error::InvalidArgument("adamx: too many slots, or groups not of 32, 64 or 128");
  if (args.size() < 2) return ffi::Error::InvalidArgument("adamx: no operands");
  const ffi::AnyBuffer scalars = *args.get<ffi::AnyBuffer>(0), bits = *args.get<ffi::AnyBuffer>(1);
  const int64_t leaves = static_cast<int64_t>((args.size() - 2) / (1 + kind.Arrays()));
  const size_t arrays = static_cast<size_t>(leaves) * kind.Arrays();
  if (leaves == 0 || scalars.element_type() != ffi::F32 || bits.element_type() != ffi::U32 || rets.size() != arrays ||
      args.size() != 2 + static_cast<size_t>(leaves) + arrays)
    return ffi::Error::InvalidArgument("adamx: operands that are not those of this rule and these formats");
  const int64_t batches = static_cast<int64_t>(bits.element_count()) / (kBits * leaves);
  if (batches == 0) return ffi::Error::Success();
  InPlace in_place(args, rets, static_cast<size_t>(leaves) + 2);
  Axes numbered(axes);
  for (int64_t i = 0; i < leaves; ++i)
    if (!StepLeaf(kind, scalars, bits, i, *args.get<ffi::AnyBuffer>(static_cast<size_t>(i) + 2), numbered, in_place,
                  batches, pool))
      return ffi::Error::InvalidArgument("adamx: a leaf's arrays are not of the types and sizes of its formats");
  return ffi::Error::Success();
}

// What Python asks first, to see that calls arrive and of which version the library is. The operand says where.
ffi::Error Answer(ffi::AnyBuffer, ffi::ResultBufferR0<ffi::S32> version) {
  *version->typed_data() = static_cast<int32_t>(kVersion);
  return ffi::Error::Success();
}

}  // namespace adamx

EXPORT XLA_FFI_Error* AdamxAnswer(XLA_FFI_CallFrame* frame) {
  static const auto* handler =
      xla::ffi::Ffi::Bind().Arg<xla::ffi::AnyBuffer>().Ret<xla::ffi::BufferR0<xla::ffi::S32>>().To(adamx::Answer).release();
  return handler->Call(frame);
}

EXPORT XLA_FFI_Error* AdamxStep(XLA_FFI_CallFrame* frame) {
  static const auto* handler = xla::ffi::Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attr<int64_t>("version")
                                   .Attr<int64_t>("rule")
                                   .Attr<int64_t>("flags")
                                   .Attr<int64_t>("decay")
                                   .Attr<int64_t>("rounding")
                                   .Attr<int64_t>("trails")
                                   .Attr<xla::ffi::Span<const int64_t>>("formats")
                                   .Attr<xla::ffi::Span<const int64_t>>("groups")
                                   .Attr<xla::ffi::Span<const int64_t>>("units")
                                   .Attr<xla::ffi::Span<const int64_t>>("turns")
                                   .Attr<xla::ffi::Span<const int64_t>>("axes")
                                   .To(adamx::StepLeaves)
                                   .release();
  return handler->Call(frame);
}
