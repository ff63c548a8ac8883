"""What is put before or after another rule: MARS' gradient, Grams' and the cautious direction, Lookahead."""

from collections.abc import Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, norm, over, square, widen


def mars(grads: Iterable[np.ndarray], b1=0.95, gamma=0.025, clip=True) -> Iterator[np.ndarray]:
    """arXiv:2411.10438, its approximate form: the corrected gradients c_t, for any rule; the gradient before is 0.

    `clip`: c / max(1, ||c||_2), the norm over the array.
    """
    b1, gamma = LONG(b1), LONG(gamma)
    previous = LONG(0)
    for g in map(widen, grads):
        c = g + gamma * b1 / (1 - b1) * (g - previous)
        previous = g
        yield c / np.maximum(1, norm(c)) if clip else c


def grams(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-6) -> Iterator[np.ndarray]:
    """arXiv:2412.17107: the sign of the gradient, the size of Adam's direction with eps added to sqrt(v). Real only."""
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        yield np.sign(g) * over(np.sqrt(1 - b2**t) / (1 - b1**t) * np.abs(m), np.sqrt(v) + eps)


def cautious(directions: Iterable[np.ndarray], grads: Iterable[np.ndarray], form="mean") -> Iterator[np.ndarray]:
    """arXiv:2411.16085: u where u g > 0, 0 elsewhere, enlarged by how few are left. Real only.

    `form`: "v1", u mask numel / (sum(mask) + 1); "mean", the authors' current code, u mask / max(mean(mask), 1e-3).
    """
    for u, g in zip(map(widen, directions), map(widen, grads), strict=True):
        mask = (u * g > 0).astype(LONG)
        yield u * mask * {"v1": mask.size / (mask.sum() + 1), "mean": 1 / np.maximum(mask.mean(), LONG(1e-3))}[form]


def lookahead(param_updates: Iterable[np.ndarray], p: np.ndarray, period=5, alpha=0.5) -> Iterator[np.ndarray]:
    """arXiv:1907.08610, Algorithm 1: the fast weights, each step moved by what is added to them, then pulled back."""
    slow = fast = widen(p)
    for t, update in enumerate(map(widen, param_updates), start=1):
        fast = fast + update
        if t % period == 0:
            slow = slow + LONG(alpha) * (fast - slow)
            fast = slow
        yield fast
