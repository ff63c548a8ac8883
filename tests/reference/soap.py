"""SOAP: Adam in the eigenbasis of Shampoo's statistics. In float64, NumPy's widest for eigenvectors."""

from collections.abc import Iterable, Iterator

import numpy as np


def soap(
    grads: Iterable[np.ndarray],
    p: np.ndarray,
    lr: float,
    b1=0.95,
    b2=0.95,
    beta=0.95,
    eps=1e-8,
    wd=0.0,
    frequency=10,
    longest=10_000,
) -> Iterator[np.ndarray]:
    """arXiv:2409.11321, Algorithm 3, as its official code of December 2024 on has it; yields the parameters.

    There m is kept in the bases, the first call only makes them, ε stands beside the uncorrected root, decay follows
    the step, and v is sorted like the bases' vectors but not turned.
    """
    axes = [a for a in range(p.ndim) if p.ndim > 1 and p.shape[a] <= longest]
    s, q = {a: np.zeros((p.shape[a],) * 2) for a in axes}, {}
    m, v = np.zeros(p.shape), np.zeros(p.shape)
    for t, g in enumerate(grads):
        if t > 0:
            seen = _seen(g, {a: q[a].T for a in axes})
            m = b1 * m + (1 - b1) * seen
            v = b2 * v + (1 - b2) * seen**2
            u = _seen(m / (np.sqrt(v) + eps), q)
            p = p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * u
            p = p - lr * wd * p
        for a in axes:
            rows = np.moveaxis(g, a, 0).reshape(g.shape[a], -1)
            s[a] = beta * s[a] + (1 - beta) * rows @ rows.T
        if t == 0:
            q = {a: np.linalg.eigh(s[a])[1][:, ::-1] for a in axes}
        elif t % frequency == 0:
            m = _seen(m, q)
            for a in axes:
                order = np.argsort(-np.diag(q[a].T @ s[a] @ q[a]))
                v = np.take(v, order, a)
                q[a] = np.linalg.qr(s[a] @ q[a][:, order])[0]
            m = _seen(m, {a: q[a].T for a in axes})
        yield p


def _seen(x: np.ndarray, by: dict[int, np.ndarray]) -> np.ndarray:
    """Each axis of `x` multiplied by its matrix."""
    for a, matrix in by.items():
        x = np.moveaxis(np.tensordot(matrix, x, (1, a)), 0, a)
    return x
