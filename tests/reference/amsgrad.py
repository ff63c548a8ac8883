"""Adam with a second moment that never falls: arXiv:1904.09237, Algorithm 2, and its repair, arXiv:1904.03590."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, at, over, square, widen


def amsgrad(
    grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, form="corrected"
) -> Iterator[np.ndarray]:
    """The three codes that go by the name.

    "raw", the paper (which has eps = 0): no bias correction, max of v. "corrected", Optax: m_hat, max of v_hat.
    "pytorch": m_hat, max of v, the maximum then divided by 1 - b2^t.
    """
    b1, b2, eps, eps_root = LONG(b1), LONG(b2), LONG(eps), LONG(eps_root)
    m = v = top = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        c1, c2 = 1 - b1**t, 1 - b2**t
        top = np.maximum(top, v / c2 if form == "corrected" else v)
        numerator = {"raw": m, "corrected": m / c1, "pytorch": m / c1}[form]
        denominator = {"raw": top, "corrected": top, "pytorch": top / c2}[form]
        yield over(numerator, np.sqrt(denominator + eps_root) + eps)


def adamx(grads: Iterable[np.ndarray], b1: float | Callable = 0.9, b2=0.999, eps=0.0) -> Iterator[np.ndarray]:
    """AdamX of arXiv:1904.03590; b1_t = `b1(t)`, t from 1. No bias correction; `eps` is not in the paper.

    v_hat_1 = v_1; then v_hat_t = max((1 - b1_t)^2 / (1 - b1_{t-1})^2 v_hat_{t-1}, v_t).
    """
    b2, eps = LONG(b2), LONG(eps)
    m = v = v_hat = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        b1_t = at(b1, t)
        m = b1_t * m + (1 - b1_t) * g
        v = b2 * v + (1 - b2) * square(g)
        v_hat = v if t == 1 else np.maximum((1 - b1_t) ** 2 / (1 - at(b1, t - 1)) ** 2 * v_hat, v)
        yield over(m, np.sqrt(v_hat) + eps)
