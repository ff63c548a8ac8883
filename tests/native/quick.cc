// What the native kernels do quickly comes out as what they do with care, to the bit: `make sanitize`.

#include "../../adamx/kernels/cpu/advance.h"
#include "../../adamx/kernels/cpu/codes.h"

#include <cstdio>
#include <random>

using namespace adamx;

namespace {

std::mt19937 bits(0);

// A float of either sign, of any size from 2^-`octaves` to 2^`octaves`.
float Any(int octaves) {
  const int32_t exponent = 127 - octaves + static_cast<int32_t>(bits() % static_cast<uint32_t>(2 * octaves));
  return Float(static_cast<int32_t>(bits() & 0x807FFFFFu) | exponent * kOctave);
}

bool Same(float x, float y) { return Bits(x) == Bits(y); }

FOR_EACH_MACHINE bool PlacesAgree() {
  for (int x = -128; x < 128 && Fuses(); ++x)
    if (!Same(OfPlace(static_cast<float>(x)), static_cast<float>(x) / (254.0f - std::fabs(static_cast<float>(x)))))
      return false;
  return true;
}

FOR_EACH_MACHINE bool QuotientsAgree() {
  for (int i = 0; i < 10000000 && Fuses(); ++i) {
    Scalars scalars{};
    scalars.first_correction = i % 2 ? 1 / (1 + std::fabs(Any(20))) : Float((127 - i % 24) * kOctave - i % kOctave);
    const Constants s(scalars);
    if (!s.of_first.Allows()) continue;
    // A quotient is hard to round where it is a float and a half: such a one's numerator is near that of this.
    const float whole = Any(90), half = static_cast<float>((whole + 0.5 * (std::nextafter(whole, 1e38f) - whole)) *
                                                           static_cast<double>(s.of_first.value));
    for (float x : {whole, half, 0.0f, -0.0f})
      if (!Same(How<false, true, true, true>(s).Over(x, s.of_first), x / s.of_first.value)) return false;
  }
  return true;
}

template <int kLength>
INLINE bool RatiosOfAgree() {
  int quick = 0, groups = 20000;
  for (int k = 0; k < groups; ++k) {
    float x[kLength], nu[kLength], ratios[kLength];
    uint32_t noise[kLength];
    int8_t code[kLength], careful[kLength];
    uint16_t scale;
    for (int i = 0; i < kLength; ++i) {
      x[i] = i % 13 == k % 37 ? 0 : Any(1 + k % 40);
      nu[i] = i % 17 == k % 19 ? 0 : std::fabs(Any(1 + k % 60));
      noise[i] = bits();
    }
    EncodeRatioCarefully<Unit::kRoot>(x, nu, noise, kLength, careful, scale);
    const float found = RatiosOf(x, nu, kLength, ratios);
    if (found == 0 || !EncodeRatioQuickly(ratios, found, noise, kLength, code)) continue;
    if (Narrowed(found) != scale || std::memcmp(code, careful, sizeof code) != 0) return false;
    ++quick;
  }
  return quick > groups * 8 / 10;
}

FOR_EACH_MACHINE bool RatiosAgree() {
  return RatiosOfAgree<kGroup / 4>() && RatiosOfAgree<kGroup / 2>() && RatiosOfAgree<kGroup>();
}

}  // namespace

int main() {
  if (!PlacesAgree()) return std::printf("a code's place is another number\n"), 1;
  if (!QuotientsAgree()) return std::printf("a product is not the quotient\n"), 1;
  if (!RatiosAgree()) return std::printf("a code is another, or seldom found quickly\n"), 1;
  std::printf("quick is as careful\n");
}
