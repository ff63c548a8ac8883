// AdamW as one would write it by hand for one machine: the least time that a step can take.

#include <math.h>

void adamw(long n, float *restrict p, const float *restrict g, float *restrict m, float *restrict v, float rate,
           float decay, float b1, float b2, float c1, float c2, float eps) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < n; ++i) {
    m[i] = m[i] + (1 - b1) * (g[i] - m[i]);
    v[i] = v[i] + (1 - b2) * (g[i] * g[i] - v[i]);
    p[i] -= rate * (m[i] / c1 / (sqrtf(v[i] / c2) + eps) + decay * p[i]);
  }
}
