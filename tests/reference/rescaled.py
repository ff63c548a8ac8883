"""Gradients divided by the root of an accumulated square: AdaGrad, RMSProp, AdaDelta."""

from collections.abc import Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, over, square, widen


def adagrad(grads: Iterable[np.ndarray], initial_accumulator=0.0, eps=1e-10, form="alg1") -> Iterator[np.ndarray]:
    """Duchi et al. (2011); `form`: "alg1", g / (sqrt(S) + eps) (PyTorch), or "root", g / sqrt(S + eps) (Optax)."""
    total, eps = LONG(initial_accumulator), LONG(eps)
    for g in map(widen, grads):
        total = total + square(g)
        yield over(g, {"alg1": np.sqrt(total) + eps, "root": np.sqrt(total + eps)}[form])


def rmsprop(
    grads: Iterable[np.ndarray],
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    centered=False,
    momentum=None,
    nesterov=False,
    bias_correction=False,
) -> Iterator[np.ndarray]:
    """Tieleman and Hinton (2012); `centered`: Graves, arXiv:1308.0850. Momentum is of the rescaled gradient.

    The variance of `centered` is E[g^2] - |E[g]|^2, each corrected by 1 - decay^t where `bias_correction` asks for it,
    and taken as 0 where rounding makes it negative (with correction it is 0 in the first step).
    """
    decay, eps, v = LONG(decay), LONG(eps), LONG(initial_scale)
    mean = trace = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        v = decay * v + (1 - decay) * square(g)
        mean = decay * mean + (1 - decay) * g
        c = 1 - decay**t if bias_correction else LONG(1)
        variance = np.maximum(v / c - square(mean / c), 0) if centered else v / c
        n = over(g, np.sqrt(variance + eps) if eps_in_sqrt else np.sqrt(variance) + eps)
        if momentum is None:
            yield n
        else:
            trace = LONG(momentum) * trace + n
            yield n + LONG(momentum) * trace if nesterov else trace


def adadelta(grads: Iterable[np.ndarray], rho=0.9, eps=1e-6) -> Iterator[np.ndarray]:
    """arXiv:1212.5701, Algorithm 1; the step size is 1."""
    rho, eps = LONG(rho), LONG(eps)
    v = d = LONG(0)
    for g in map(widen, grads):
        v = rho * v + (1 - rho) * square(g)
        u = over(np.sqrt(d + eps) * g, np.sqrt(v + eps))
        d = rho * d + (1 - rho) * square(u)
        yield u
