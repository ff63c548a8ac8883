"""arXiv:2405.15682. Both yield (y, x): where the next gradient is taken, and where the model is evaluated."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, at, over, square, widen


def schedule_free_adamw(
    grads: Iterable[np.ndarray],
    p: np.ndarray,
    lr: float | Callable = 0.0025,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    wd=0.0,
    r=0.0,
    power=2.0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Algorithm 1; `lr` has the warm-up in it. The weight of z in x is t^r lr_max^power, lr_max without corrections.

    (An older version of the authors' code puts sqrt(1 - b2^t) into lr, thus into the weights, the decay and eps.)
    """
    b1, b2, eps, wd, r, power = (LONG(a) for a in (b1, b2, eps, wd, r, power))
    x = y = z = widen(p)
    v = top = total = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        eta = at(lr, t)
        v = b2 * v + (1 - b2) * square(g)
        z = z - eta * wd * y - eta * over(g, np.sqrt(v / (1 - b2**t)) + eps)
        top = np.maximum(top, eta)
        weight = LONG(t) ** r * top**power
        total = total + weight
        c = over(weight, total)
        x = (1 - c) * x + c * z
        y = (1 - b1) * z + b1 * x
        yield y, x


def schedule_free_sgd(
    grads: Iterable[np.ndarray], p: np.ndarray, lr: float | Callable = 1.0, b1=0.9, wd=0.0, r=0.0, power=2.0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Equations 3 to 5, weighted as above; the decay wd y joins the gradient."""
    b1, wd, r, power = (LONG(a) for a in (b1, wd, r, power))
    x = y = z = widen(p)
    top = total = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        z = z - at(lr, t) * (g + wd * y)
        top = np.maximum(top, at(lr, t))
        weight = LONG(t) ** r * top**power
        total = total + weight
        c = over(weight, total)
        x = (1 - c) * x + c * z
        y = (1 - b1) * z + b1 * x
        yield y, x
