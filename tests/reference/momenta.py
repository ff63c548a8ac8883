"""More than one memory of the gradient, or another one: Lion, Adan, ADOPT, AdEMAMix and its simplification."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, at, over, square, widen


def lion(grads: Iterable[np.ndarray], b1=0.9, b2=0.99) -> Iterator[np.ndarray]:
    """arXiv:2302.06675, Algorithm 2. Real gradients only."""
    b1, b2 = LONG(b1), LONG(b2)
    m = LONG(0)
    for g in map(widen, grads):
        yield np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * g


def adan(grads: Iterable[np.ndarray], b1=0.98, b2=0.92, b3=0.99, eps=1e-8) -> Iterator[np.ndarray]:
    """arXiv:2208.06677 in the convention of the authors' code: the paper has 1 - b, and eps in the root.

    The difference of gradients is 0 in the first step; each average is corrected with its own beta.
    """
    b1, b2, b3, eps = LONG(b1), LONG(b2), LONG(b3), LONG(eps)
    m = v = n = LONG(0)
    previous = None
    for t, g in enumerate(map(widen, grads), start=1):
        d = 0 * g if previous is None else g - previous
        previous = g
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * d
        n = b3 * n + (1 - b3) * square(g + b2 * d)
        yield over(m / (1 - b1**t) + b2 * v / (1 - b2**t), np.sqrt(n / (1 - b3**t)) + eps)


def adopt(grads: Iterable[np.ndarray], b1=0.9, b2=0.9999, eps=1e-6, clip=True) -> Iterator[np.ndarray]:
    """arXiv:2411.02853: g over the *previous* v, clipped at t^(1/4), t from 0; the first call yields 0. Real only."""
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads)):
        if t == 0:
            v = square(g)
            yield 0 * g
            continue
        n = over(g, np.maximum(np.sqrt(v), eps))
        bound = LONG(t) ** LONG(0.25)
        m = b1 * m + (1 - b1) * (np.clip(n, -bound, bound) if clip else n)
        v = b2 * v + (1 - b2) * square(g)
        yield m


def ademamix(
    grads: Iterable[np.ndarray],
    b1: float | Callable = 0.9,
    b2: float | Callable = 0.999,
    b3: float | Callable = 0.9999,
    alpha: float | Callable = 5.0,
    eps=1e-8,
) -> Iterator[np.ndarray]:
    """arXiv:2409.03137; the slow average is not corrected.

    Each hyperparameter is a number or a function of t, from 1. The corrections are 1 - b(1) ... b(t), which is 1 - b^t
    for a number.
    """
    eps = LONG(eps)
    fast = slow = v = LONG(0)
    p1 = p2 = LONG(1)
    for t, g in enumerate(map(widen, grads), start=1):
        b1_t, b2_t, b3_t = at(b1, t), at(b2, t), at(b3, t)
        p1, p2 = p1 * b1_t, p2 * b2_t
        fast = b1_t * fast + (1 - b1_t) * g
        slow = b3_t * slow + (1 - b3_t) * g
        v = b2_t * v + (1 - b2_t) * square(g)
        yield over(fast / (1 - p1) + at(alpha, t) * slow, np.sqrt(v / (1 - p2)) + eps)


def simplified_ademamix(
    grads: Iterable[np.ndarray], b1=0.99, b2=0.95, alpha: float | Callable = 0.0, eps=1e-8
) -> Iterator[np.ndarray]:
    """arXiv:2502.02431: m is a sum, not an average, and has no correction; v_hat as in Adam, eps outside the root.

    Defaults and corrections are those of the authors' code, bias_correction1 = False and bias_correction2 = True.
    """
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + g
        v = b2 * v + (1 - b2) * square(g)
        yield over(m + at(alpha, t) * g, np.sqrt(v / (1 - b2**t)) + eps)
