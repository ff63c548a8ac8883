"""One number per array besides Adam's: StableAdamW, NovoGrad, LAMB."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, at, norm, over, square, widen


def stable_adamw(
    grads: Iterable[np.ndarray], p: np.ndarray, lr: float | Callable, b1=0.9, b2=0.99, eps=1e-6, wd=0.0
) -> Iterator[np.ndarray]:
    """arXiv:2304.13013, Algorithm 2: AdamW with lr / max(1, RMS_t), also on the decay; yields the parameters.

    RMS_t = sqrt(mean(g^2 / max(v_hat, eps^2))). The paper corrects the bias inside the decay rates, with the same
    m_hat and v_hat.
    """
    p, b1, b2, eps, wd = widen(p), LONG(b1), LONG(b2), LONG(eps), LONG(wd)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        ratio = np.sqrt(np.mean(over(square(g), np.maximum(v_hat, eps**2))))
        p = p - at(lr, t) / np.maximum(1, ratio) * (wd * p + over(m_hat, np.sqrt(v_hat) + eps))
        yield p


def novograd(grads: Iterable[np.ndarray], b1=0.9, b2=0.25, eps=1e-6, eps_root=0.0) -> Iterator[np.ndarray]:
    """arXiv:1905.11286: v is a number, v_1 = ||g_1||^2; m sums g / (sqrt(v) + eps), so m_1 is that. Without decay."""
    b1, b2, eps, eps_root = LONG(b1), LONG(b2), LONG(eps), LONG(eps_root)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        v = norm(g) ** 2 if t == 1 else b2 * v + (1 - b2) * norm(g) ** 2
        m = b1 * m + over(g, np.sqrt(v + eps_root) + eps)
        yield m


def lamb(
    grads: Iterable[np.ndarray], p: np.ndarray, lr: float | Callable, b1=0.9, b2=0.999, eps=1e-6, wd=0.0
) -> Iterator[np.ndarray]:
    """arXiv:1904.00962, Algorithm 2, phi the identity; the ratio is 1 if either norm is 0. Yields the parameters."""
    p, b1, b2, eps, wd = widen(p), LONG(b1), LONG(b2), LONG(eps), LONG(wd)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        r = over(m / (1 - b1**t), np.sqrt(v / (1 - b2**t)) + eps) + wd * p
        ratio = norm(p) / norm(r) if norm(p) > 0 and norm(r) > 0 else LONG(1)
        p = p - at(lr, t) * ratio * r
        yield p
