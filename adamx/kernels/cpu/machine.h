// What steps and sums share: the compiler's words for what the standard lacks, bits, and work in parts.

#ifndef ADAMX_MACHINE_H_
#define ADAMX_MACHINE_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>

// The choice between versions is made before the thread sanitizer has begun.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_MACHINE
#endif
#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))  // a lambda
#define RESTRICT __restrict__
#define PREFETCH(address, written) __builtin_prefetch(address, written, 3)
#else
#define INLINE inline
#define INLINED
#define RESTRICT __restrict
#define PREFETCH(address, written) static_cast<void>(address)
#endif
#if defined(__GNUC__) && !defined(__clang__)
#define ROLLED _Pragma("GCC unroll 1")  // a loop that it would pay little to write out
#else
#define ROLLED
#endif
#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace adamx {

constexpr int32_t kInfinite = 0x7F800000;

INLINE int32_t Bits(float x) {
  int32_t y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

INLINE float Float(int32_t x) {
  float y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}

INLINE bool Finite(float x) { return (Bits(x) & kInfinite) != kInfinite; }

// Whether the compiler fuses products and sums on this machine.
INLINE bool Fuses() {
  const volatile float x = 1 + 0x1p-12f;
  const float once = x, again = x;
  return once * again - (1 + 0x1p-11f) != 0;
}

// Parts are taken by whoever is free, the calling thread among them: it waits for parts that are being worked on and
// never for one that nobody has begun.
template <class Work>
class Crew {
 public:
  Crew(const Work& work, int64_t parts) : work_(work), parts_(parts) {}

  void Help() {
    for (int64_t part; (part = next_.fetch_add(1)) < parts_;) {
      work_(part);
      if (done_.fetch_add(1) + 1 == parts_) {
        std::lock_guard<std::mutex> lock(mutex_);
        all_.notify_all();
      }
    }
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_.wait(lock, [&] { return done_.load() == parts_; });
  }

 private:
  const Work work_;
  const int64_t parts_;
  std::atomic<int64_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable all_;
};

// `work(part)` for each part, by the pool's threads.
template <class Pool, class Work>
void InParts(int64_t parts, Pool& pool, const Work& work) {
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), parts) - 1;
  if (helpers <= 0) {
    for (int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  auto crew = std::make_shared<Crew<Work>>(work, parts);
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([crew] { crew->Help(); });
  crew->Help();
  crew->Wait();
}

}  // namespace adamx

#endif
