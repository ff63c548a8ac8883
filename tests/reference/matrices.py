"""Muon and what is built on it, for one matrix with a row for each output, as PyTorch has it."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


def polar(x: np.ndarray) -> np.ndarray:
    """The nearest orthogonal matrix, by singular values."""
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return u @ vh


def newton_schulz(x: np.ndarray, triples: Sequence[Sequence[float]], margin: float = 1.0) -> np.ndarray:
    """What an iteration of quintic polynomials makes of a matrix: of its singular values alone, one after the other."""
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    if not s.any():
        return x
    s = s / (np.sqrt(np.sum(s**2)) * margin)
    for a, b, c in triples:
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vh


KELLER_JORDAN = [(3.4445, -4.7750, 2.0315)] * 5


def orthogonal(grads: Iterable[np.ndarray], beta=0.95, nesterov=True, triples=KELLER_JORDAN, margin=1.0) -> Iterator:
    """github.com/KellerJordan/Muon: the gradient moved towards its average, made orthogonal."""
    m = 0.0
    for g in grads:
        m = m + (1 - beta) * (g - m)
        x = g + beta * (m - g) if nesterov else m
        yield newton_schulz(x, triples, margin)


def scaled(o: np.ndarray) -> np.ndarray:
    """Keller Jordan's length of a step."""
    return o * max(1, o.shape[0] / o.shape[1]) ** 0.5


def keller(grads: Iterable[np.ndarray], **more) -> Iterator[np.ndarray]:
    """As there."""
    return map(scaled, orthogonal(grads, **more))


def moonlight(grads: Iterable[np.ndarray], beta=0.95) -> Iterator[np.ndarray]:
    """arXiv:2502.16982: the sum of gradients, .2 sqrt(max(rows, cols)) for the step's length."""
    m = 0.0
    for g in grads:
        m = beta * m + g
        yield newton_schulz(g + beta * m, KELLER_JORDAN) * 0.2 * np.sqrt(max(g.shape))


def normuon(grads: Iterable[np.ndarray], beta=0.95, b2=0.95) -> Iterator[np.ndarray]:
    """arXiv:2510.05491, with the norm kept as in the authors' code: a mean square for each output."""
    v = 0.0
    for o in orthogonal(grads, beta):
        v = b2 * v + (1 - b2) * np.mean(o**2, axis=1, keepdims=True)
        n = o / (np.sqrt(v) + 1e-8)
        yield scaled(n * np.linalg.norm(o) / np.linalg.norm(n))


def adamuon(grads: Iterable[np.ndarray], beta=0.95, b2=0.95) -> Iterator[np.ndarray]:
    """arXiv:2507.11005, Algorithm 1: signs made orthogonal, a mean square for each element; the norm kept."""
    m = v = 0.0
    for g in grads:
        m = m + (1 - beta) * (g - m)
        o = newton_schulz(np.sign(g + beta * (m - g)), KELLER_JORDAN)
        v = b2 * v + (1 - b2) * o**2
        n = o / (np.sqrt(v) + 1e-8)
        yield scaled(n * np.linalg.norm(o) / np.linalg.norm(n))
