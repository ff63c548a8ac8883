// What Python says in calls, by number and by place: the Python of it is interface.py, and tests/test_cpu_interface.py
// reads this file to compare the two. Whoever changes it changes kVersion.

#ifndef ADAMX_INTERFACE_H_
#define ADAMX_INTERFACE_H_

#include <cstdint>

namespace adamx {

constexpr int64_t kVersion = 5;
constexpr char kOtherVersion[] = "adamx's kernels are of another version than its Python: install adamx again";

// A step's

enum class Rule { kAdam, kAMSGrad, kAdaMax, kLion, kRMSProp, kAdaGrad };
enum class Decay { kNone, kShrink, kL2, kCautious, kProximal };
enum class Rounding { kNearest, kStochastic, kKahan, kSplit8, kSplit16 };
enum class Format { kFloat, kBFloat16, kDitheredMean, kFloatCode, kLog, kRatio };
enum class Unit { kNone, kRoot, kItself };
enum Flags { kNesterov = 1, kRaw = 2, kMomentum = 4 };

constexpr int kTrails = 2;  // averages of the weights that follow a step, at most

struct Average {  // old + weight (new - old), or new + weight (old - new)
  float weight;
  float from_old;  // 1 or 0
};

struct Scalars {
  float grad_scale, learning_rate, shrink, weight_decay;
  Average first, second;
  float first_correction, next_correction, second_correction;
  float eps, eps_root, decay_rate, momentum, step_size;
  float first_share, second_share;  // of the new weight in each average
};
constexpr int kScalars = sizeof(Scalars) / sizeof(float);

// Those of what is added up

enum Given { kMoments = 1, kSquare = 2 };

struct Numbers {
  float scale;  // what gradients are multiplied with
  float root;   // what the root of v is multiplied with to be compared with eps
  float eps;
};
constexpr int kNumbers = sizeof(Numbers) / sizeof(float);

// The sums, in this order, after the number of elements.
enum Added { kGradient, kUpdate, kWeight, kMoved, kRatio, kAdded };
enum Counted { kPulled, kAgainst, kStalled, kNonfinite, kDominated, kIdle, kCounted };
enum Largest { kStepMax, kRatioMax, kLargest };  // of bit patterns: sizes are in their order, and NaN above all
constexpr int kSums = 1 + kAdded + kCounted + kLargest;

}  // namespace adamx

#endif
