"""Adam's two moments, differently put together: NAdam, RAdam, AdaBelief, Yogi, LaProp, Adam-atan2, Adam-mini."""

from collections.abc import Iterable, Iterator

import numpy as np

from tests.reference.precision import LONG, over, square, widen


def nadam(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, psi=4e-3) -> Iterator[np.ndarray]:
    """NAdam (Dozat, 2016) with the momentum schedule of PyTorch, mu_t = b1 (1 - 0.96^(t psi) / 2); Keras: psi = 1."""
    b1, b2, eps, psi = LONG(b1), LONG(b2), LONG(eps), LONG(psi)
    m = v = LONG(0)
    product = LONG(1)
    for t, g in enumerate(map(widen, grads), start=1):
        mu, mu_next = (b1 * (1 - LONG(0.5) * LONG(0.96) ** (i * psi)) for i in (t, t + 1))
        product = product * mu
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        yield over(m_bar, np.sqrt(v / (1 - b2**t)) + eps)


def radam(
    grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, eps_form="hat", unrectified="sgd", threshold=5.0
) -> Iterator[np.ndarray]:
    """arXiv:1908.03265, Algorithm 2; rectified where rho_t > `threshold` (>= in Optax and the authors' code).

    `eps_form`: "hat", sqrt(v) + eps (PyTorch and the authors' code), or "alg1", sqrt(v_hat) + eps (Optax).
    `unrectified`: "sgd", u = m_hat (PyTorch and Optax), or "skip", u = 0 (the authors' default).
    """
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    rho_inf = 2 / (1 - b2) - 1
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        m_hat, c2 = m / (1 - b1**t), 1 - b2**t
        rho = rho_inf - 2 * t * b2**t / c2
        if rho > threshold:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            root = {"hat": (np.sqrt(v) + eps) / np.sqrt(c2), "alg1": np.sqrt(v / c2) + eps}[eps_form]
            yield over(r * m_hat, root)
        else:
            yield {"sgd": m_hat, "skip": 0 * m_hat}[unrectified]


def adabelief(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16) -> Iterator[np.ndarray]:
    """arXiv:2010.07468 as in the authors' code: the new m in g - m, `eps_root` added to the state in every step."""
    b1, b2, eps, eps_root = LONG(b1), LONG(b2), LONG(eps), LONG(eps_root)
    m = s = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * square(g - m) + eps_root
        yield over(m / (1 - b1**t), np.sqrt(s / (1 - b2**t)) + eps)


def yogi(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-3, initial=1e-6, initial_m=0.0) -> Iterator[np.ndarray]:
    """Yogi (Zaheer et al., NeurIPS 2018), bias-corrected as if v_0 and m_0 were 0; Optax has `initial_m` = 1e-6."""
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m, v = LONG(initial_m), LONG(initial)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = v - (1 - b2) * np.sign(v - square(g)) * square(g)
        yield over(m / (1 - b1**t), np.sqrt(v / (1 - b2**t)) + eps)


def laprop(grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-15) -> Iterator[np.ndarray]:
    """arXiv:2002.04839: momentum of the normalised gradient. The authors' code averages lr * n; here lr is constant."""
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        v = b2 * v + (1 - b2) * square(g)
        n = over(g, np.sqrt(v / (1 - b2**t)) + eps)
        m = b1 * m + (1 - b1) * n
        yield m / (1 - b1**t)


def adam_atan2(grads: Iterable[np.ndarray], b1=0.9, b2=0.99, a=1.27, b=1.0) -> Iterator[np.ndarray]:
    """arXiv:2407.05872: no eps. Real gradients only."""
    b1, b2, a, b = LONG(b1), LONG(b2), LONG(a), LONG(b)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * square(g)
        yield a * np.arctan2(m / (1 - b1**t), b * np.sqrt(v / (1 - b2**t)))


def adam_mini(
    grads: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, keep: tuple[int, ...] = ()
) -> Iterator[np.ndarray]:
    """arXiv:2406.16793: one second moment per block, a block being one index along the axes in `keep`.

    keep = () is one for the whole array, keep = (0,) one per output row, all axes plain Adam.
    """
    b1, b2, eps = LONG(b1), LONG(b2), LONG(eps)
    m = v = LONG(0)
    for t, g in enumerate(map(widen, grads), start=1):
        axes = tuple(i for i in range(g.ndim) if i not in {k % g.ndim for k in keep})
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.mean(square(g), axis=axes, keepdims=True)
        yield over(m / (1 - b1**t), np.sqrt(v / (1 - b2**t)) + eps)
