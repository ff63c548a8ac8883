"""Second moments as a row times a column: Adafactor, CAME. Rows and columns are the last two axes, others a batch."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, at, over, rms, square, widen


def adafactor(
    grads: Iterable[np.ndarray],
    p: np.ndarray,
    lr: float | Callable = lambda t: min(LONG(0.01), 1 / np.sqrt(LONG(t))),
    eps1=1e-30,
    eps2=1e-3,
    d=1.0,
    decay=0.8,
    factored=True,
    multiply_by_parameter_scale=True,
    clamp=False,
) -> Iterator[np.ndarray]:
    """arXiv:1804.04235, Algorithms 4 and 5; `lr` is its rho_t. Yields the parameters.

    `clamp`: PyTorch's eps1, not added to g^2 but a floor of mean(R) and of sqrt(V_hat) (its default is the machine
    epsilon of the dtype; its rho_t is min(lr, 1 / sqrt(t))). The means stand for the paper's sums: R C / sum(R) of sums
    is R C / mean(R) of means. RMS is over the whole array, also of a batch of matrices.
    """
    p, eps1, eps2, d, decay = widen(p), LONG(eps1), LONG(eps2), LONG(d), LONG(decay)
    row = col = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        b2 = 1 - LONG(t) ** -decay
        s = square(g) if clamp else square(g) + eps1
        if factored and g.ndim >= 2:
            row = b2 * row + (1 - b2) * s.mean(-1, keepdims=True)
            col = b2 * col + (1 - b2) * s.mean(-2, keepdims=True)
            mean = row.mean(-2, keepdims=True)
            v = row * col / (np.maximum(mean, eps1) if clamp else mean)
        else:
            v = b2 * v + (1 - b2) * s
        u = over(g, np.maximum(np.sqrt(v), eps1) if clamp else np.sqrt(v))
        u = u / np.maximum(1, rms(u) / d)
        p = p - at(lr, t) * (np.maximum(eps2, rms(p)) if multiply_by_parameter_scale else 1) * u
        yield p


def came(
    grads: Iterable[np.ndarray], b1=0.9, b2=0.999, b3=0.9999, eps1=1e-30, eps2=1e-16, clip=1.0
) -> Iterator[np.ndarray]:
    """arXiv:2307.02047, Algorithm 2, as in the authors' code: no bias correction, and for vectors u = m."""
    b1, b2, b3, eps1, eps2, clip = (LONG(x) for x in (b1, b2, b3, eps1, eps2, clip))
    m = v = row = col = res_row = res_col = LONG(0)
    for g in map(widen, grads):
        s = square(g) + eps1
        if g.ndim >= 2:
            row = b2 * row + (1 - b2) * s.mean(-1, keepdims=True)
            col = b2 * col + (1 - b2) * s.mean(-2, keepdims=True)
            v = row * col / row.mean(-2, keepdims=True)
        else:
            v = b2 * v + (1 - b2) * s
        u = over(g, np.sqrt(v))
        u = u / np.maximum(1, rms(u) / clip)
        m = b1 * m + (1 - b1) * u
        if g.ndim < 2:
            yield m
            continue
        res = square(u - m) + eps2
        res_row = b3 * res_row + (1 - b3) * res.mean(-1, keepdims=True)
        res_col = b3 * res_col + (1 - b3) * res.mean(-2, keepdims=True)
        yield over(m, np.sqrt(res_row * res_col / res_row.mean(-2, keepdims=True)))
