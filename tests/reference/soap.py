"""SOAP: Adam in the eigenbasis of Shampoo's statistics. In float64, NumPy's widest for eigenvectors."""

from collections.abc import Iterable, Iterator
from typing import Any

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
    kl_eps: float | None = None,
    debias=False,
    before=False,
    start: Any = None,
) -> Iterator[np.ndarray]:
    """arXiv:2409.11321, Algorithm 3, as its official code of December 2024 on has it; yields the parameters.

    There m is kept in the bases, the first call only makes them, ε stands beside the uncorrected root, decay follows
    the step, and v is sorted like the bases' vectors but not turned. `before` has statistics and bases follow each
    gradient before it is turned (NVIDIA), `debias` divides statistics by 1 - βᵗ, `kl_eps` makes them those of
    arXiv:2509.03378 with eigenvalues of at least that. `start` are statistics to begin with, by axis.
    """
    axes = [a for a in range(p.ndim) if p.ndim > 1 and p.shape[a] <= longest]
    s = {a: np.zeros((p.shape[a],) * 2) if start is None else start[a] for a in axes}
    q = {a: np.eye(p.shape[a]) for a in axes}
    m, v = np.zeros(p.shape), np.zeros(p.shape)

    def gather(g: np.ndarray, t: int) -> None:
        b, old = beta, dict(s)
        if debias:
            b = 1 - (1 - beta) / (1 - beta ** (t + 1))
        for a in axes:
            seen = g
            if kl_eps is not None:
                for other in axes:
                    if other != a and t > 0:
                        values = np.maximum(np.diag(q[other].T @ old[other] @ q[other]), kl_eps)
                        seen = _seen(seen, {other: np.diag(values**-0.5) @ q[other].T})
                seen = seen / np.sqrt(g.size / g.shape[a])
            rows = np.moveaxis(seen, a, 0).reshape(g.shape[a], -1)
            s[a] = b * old[a] + (1 - b) * rows @ rows.T

    def turn(t: int) -> None:
        nonlocal m, v
        if t == 0:
            q.update({a: np.linalg.eigh(s[a])[1][:, ::-1] for a in axes})
        elif t % frequency == 0:
            m = _seen(m, q)
            for a in axes:
                order = np.argsort(-np.diag(q[a].T @ s[a] @ q[a]))
                v = np.take(v, order, a)
                q[a] = np.linalg.qr(s[a] @ q[a][:, order])[0]
            m = _seen(m, {a: q[a].T for a in axes})

    for t, g in enumerate(grads):
        if before:
            gather(g, t)
            turn(t)
        if before or t > 0:
            taken = t + before
            seen = _seen(g, {a: q[a].T for a in axes})
            m = b1 * m + (1 - b1) * seen
            v = b2 * v + (1 - b2) * seen**2
            u = _seen(m / (np.sqrt(v) + eps), q)
            p = p - lr * np.sqrt(1 - b2**taken) / (1 - b1**taken) * u
            p = p - lr * wd * p
        if not before:
            gather(g, t)
            turn(t)
        yield p


def _seen(x: np.ndarray, by: dict[int, np.ndarray]) -> np.ndarray:
    """Each axis of `x` multiplied by its matrix."""
    for a, matrix in by.items():
        x = np.moveaxis(np.tensordot(matrix, x, (1, a)), 0, a)
    return x
