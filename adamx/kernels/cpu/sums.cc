// The sums' call by XLA: its operands are checked and made accounts of.

#include "sums.h"
#include "xla/ffi/api/ffi.h"

namespace adamx {

namespace ffi = xla::ffi;

// The operands are the numbers, then leaf by leaf gradient, weights before and after, and both moments if they are given;
// the result is a row of sums for each leaf.
ffi::Error TellLeaves(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets, int64_t version,
                      int64_t given) {
  if (version != kVersion) return ffi::Error::InvalidArgument(kOtherVersion);
  const int64_t arrays = given & kMoments ? 5 : 3;
  const int64_t count = static_cast<int64_t>(args.size()) - 1, leaves = count / arrays;
  const auto array = [&args](int64_t i) { return *args.get<ffi::AnyBuffer>(static_cast<size_t>(i)); };
  if (count < arrays || count % arrays != 0 || rets.size() != 1)
    return ffi::Error::InvalidArgument("adamx: operands that are not those of leaves with these arrays");
  const ffi::AnyBuffer numbers = array(0), told = **rets.get<ffi::AnyBuffer>(0);
  const int64_t batches = static_cast<int64_t>(numbers.element_count()) / kNumbers;
  bool as_said = numbers.element_type() == ffi::F32 && told.element_type() == ffi::F32;
  as_said = as_said && static_cast<int64_t>(told.element_count()) == kSums * leaves * batches;
  for (int64_t i = 0; i < count; ++i) {
    const ffi::AnyBuffer first = array(1 + i / arrays * arrays), one = array(1 + i);
    as_said = as_said && one.element_type() == ffi::F32 && one.element_count() == first.element_count();
  }
  if (!as_said) return ffi::Error::InvalidArgument("adamx: arrays that are not float32, or not of their leaf's size");
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (int64_t leaf = 0; leaf < leaves; ++leaf) {
      int64_t next = 1 + leaf * arrays;
      Account account{};
      account.size = static_cast<int64_t>(array(next).element_count()) / batches;
      const auto part = [&] { return array(next++).typed_data<float>() + batch * account.size; };
      account.g = part();
      account.before = part();
      account.after = part();
      account.mu = given & kMoments ? part() : nullptr;
      account.nu = given & kMoments ? part() : nullptr;
      account.square = given & kSquare;
      std::memcpy(&account.numbers, numbers.typed_data<float>() + batch * kNumbers, sizeof(Numbers));
      Told(account, pool).Write(told.typed_data<float>() + (batch * leaves + leaf) * kSums);
    }
  }
  return ffi::Error::Success();
}

}  // namespace adamx

EXPORT XLA_FFI_Error* AdamxSums(XLA_FFI_CallFrame* frame) {
  static const auto* handler = xla::ffi::Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attr<int64_t>("version")
                                   .Attr<int64_t>("given")
                                   .To(adamx::TellLeaves)
                                   .release();
  return handler->Call(frame);
}
