"""Adam with an estimated distance d to the solution. One d for all arrays: gradients and parameters are lists. Real."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tests.reference.precision import LONG, at, over, square, widen


def prodigy(
    grads: Iterable[Sequence[np.ndarray]],
    p: Sequence[np.ndarray],
    lr: float | Callable = 1.0,
    b1=0.9,
    b2=0.999,
    b3=None,
    eps=1e-8,
    d0=1e-6,
    d_coef=1.0,
    bias_correction=False,
    growth=np.inf,
    wd=0.0,
) -> Iterator[list[np.ndarray]]:
    """arXiv:2306.06101, its Adam variant, with b3 = sqrt(b2) and the decay dlr wd theta of the authors' code.

    d grows at most by the factor `growth` in a step, but jumps freely off d0. Everything has the old d but `d eps` in
    the step. While every gradient has been 0, d stays and u = 0 (the authors' code then counts no step).
    """
    b1, b2, b3 = LONG(b1), LONG(b2), np.sqrt(LONG(b2)) if b3 is None else LONG(b3)
    eps, d0, d_coef, growth, wd = LONG(eps), LONG(d0), LONG(d_coef), LONG(growth), LONG(wd)
    start = x = [widen(a) for a in p]
    m = v = s = [LONG(0)] * len(x)
    r, d, d_max = LONG(0), d0, d0
    for t, gs in enumerate(([widen(g) for g in tree] for tree in grads), start=1):
        dlr = d * at(lr, t) * (np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1)
        r = b3 * r + d / d0 * dlr * sum(np.sum(g * (a0 - a)) for g, a0, a in zip(gs, start, x, strict=True))
        m = [b1 * a + d * (1 - b1) * g for a, g in zip(m, gs, strict=True)]
        v = [b2 * a + d**2 * (1 - b2) * square(g) for a, g in zip(v, gs, strict=True)]
        s = [b3 * a + d / d0 * dlr * g for a, g in zip(s, gs, strict=True)]
        d_hat = over(d_coef * r, sum(np.sum(np.abs(a)) for a in s))
        d_max = np.maximum(d_max, d_hat)
        d = np.minimum(d_max, growth * (np.maximum(d, d_hat) if d == d0 else d))
        x = [a - dlr * wd * a - dlr * over(b, np.sqrt(c) + d * eps) for a, b, c in zip(x, m, v, strict=True)]
        yield x


def dadapt_adam(
    grads: Iterable[Sequence[np.ndarray]],
    p: Sequence[np.ndarray],
    lr: float | Callable = 1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    d0=1e-6,
    bias_correction=False,
    growth=np.inf,
    wd=0.0,
) -> Iterator[list[np.ndarray]]:
    """arXiv:2301.07733, its Adam variant: r has v before its update, the step after it; decay dlr wd theta, old d.

    While every gradient has been 0, d stays and u = 0.
    """
    b1, b2, eps, growth, wd = LONG(b1), LONG(b2), LONG(eps), LONG(growth), LONG(wd)
    b3, d, r = np.sqrt(b2), LONG(d0), LONG(0)
    x = [widen(a) for a in p]
    m = v = s = [np.zeros_like(a) for a in x]
    for t, gs in enumerate(([widen(g) for g in tree] for tree in grads), start=1):
        dlr = d * at(lr, t) * (np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1)
        r = b3 * r + (1 - b3) * dlr * sum(
            np.sum(over(g * a, np.sqrt(b) + eps)) for g, a, b in zip(gs, s, v, strict=True)
        )
        m = [b1 * a + (1 - b1) * dlr * g for a, g in zip(m, gs, strict=True)]
        v = [b2 * a + (1 - b2) * square(g) for a, g in zip(v, gs, strict=True)]
        s = [b3 * a + (1 - b3) * dlr * g for a, g in zip(s, gs, strict=True)]
        d_hat = over(r, (1 - b3) * sum(np.sum(np.abs(a)) for a in s))
        d = np.maximum(d, np.minimum(d_hat, growth * d))
        x = [a - dlr * wd * a - over(b, np.sqrt(c) + eps) for a, b, c in zip(x, m, v, strict=True)]
        yield x
