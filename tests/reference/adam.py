"""Algorithms 1 and 2 of arXiv:1412.6980."""

from collections.abc import Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, over, widen


def adam(
    grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0, nesterov=False, bias=True, eps_hat=False
) -> Iterator[np.ndarray]:
    """Algorithm 1; `eps_hat`: the order at the end of section 2, step size alpha sqrt(1 - b2^t) / (1 - b1^t)."""
    b1, b2, eps, eps_root = LONG(b1), LONG(b2), LONG(eps), LONG(eps_root)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g * g.conj()).real
        c1, c2 = (1 - b1**t, 1 - b2**t) if bias else (LONG(1), LONG(1))
        m_hat = m / c1
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1) if bias else 1) + (1 - b1) * g / c1
        if eps_hat:
            yield over(np.sqrt(c2) * m_hat, np.sqrt(v + eps_root) + eps)
        else:
            yield over(m_hat, np.sqrt(v / c2 + eps_root) + eps)


def adamax(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=0.0) -> Iterator[np.ndarray]:
    """Algorithm 2, with `eps` added to |g| as PyTorch and Optax do; the paper has eps = 0."""
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = u = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        yield over(m / (1 - b1**t), u)
