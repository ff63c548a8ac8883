"""The sum-of-functions optimizer (SFO), with which the Adam paper's section 6.2 compares Adam.

It minimises a sum of functions, one for each minibatch, and keeps a quadratic model of every one of them: the value and
the gradient where it was evaluated last, and a BFGS approximation of its own Hessian. A step is Newton's on the sum of
the models, then one minibatch is evaluated where that leads. The models live in a subspace of the parameters that holds
the last gradient and position of every minibatch, which is what takes memory.

Reference: Sohl-Dickstein, Poole & Ganguli, arXiv:1311.2115.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Evaluate = Callable[[int, np.ndarray, int], tuple[float, np.ndarray]]
"""From a minibatch's number, parameters `(m,)` and the number of the call to its loss and gradient `(m,)`."""

HISTORY = 10
"""Changes of a minibatch's gradient of which its Hessian is made."""
STEEPEST = 1e3
"""The curvature, in each direction, of a minibatch that has been evaluated once, while there are no others."""
TRUSTED = 1e-8
"""A Hessian's eigenvalue under so much of its largest is not trusted, and replaced by their median."""
LONGEST, SHORTEST = 10.0, 1e-5
"""A step is at most so many times as long as they are on average, and after failures at least so much of Newton's."""
TINY = 1e-12
Evaluated = tuple[np.ndarray, float, np.ndarray]
"""Where a minibatch was evaluated, its loss and its gradient."""


class SFO:
    """The optimizer and where it is, all in arrays; `step` evaluates a minibatch.

    Args:
        evaluate: the losses whose sum is minimised.
        minibatches: how many there are; their paper recommends √n/10 for n examples.
        start: parameters, float32 or float64 `(m,)`.
        seed: of the order in which minibatches come in.

    >>> import numpy as np
    >>> centres = np.random.default_rng(0).normal(size=(4, 3))
    >>> sfo = SFO(lambda i, x, call: (((x - centres[i]) ** 2).sum() / 2, x - centres[i]), 4, np.zeros(3))
    >>> for _ in range(60): sfo.step()
    >>> bool(np.abs(sfo.x - centres.mean(0)).max() < 1e-6)
    True
    """

    def __init__(self, evaluate: Evaluate, minibatches: int, start: np.ndarray, seed: int = 0):
        n, m = minibatches, start.size
        self._evaluate, self._start, self._seed = evaluate, start, seed
        self._most = min(3 * n + 4, m)
        # Rows, so that a new direction is written, and all of them are read, in one piece.
        self.basis, self.k = np.zeros((self._most, m), start.dtype), 0
        # In the basis, relative to the start; of each minibatch.
        self.places, self.grads = np.zeros((n, self._most)), np.zeros((n, self._most))
        # The changes of place and of gradient between evaluations, the newest first; 0 where there was none.
        self.moves = np.zeros((n, HISTORY, 2, self._most))
        # A Hessian is b I + V diag(d) Vᵀ.
        self.b, self.v, self.d = np.zeros(n), np.zeros((n, self._most, 2 * HISTORY)), np.zeros((n, 2 * HISTORY))
        self.losses, self.evaluations = np.full(n, np.nan), np.zeros(n, int)
        self.scale, self.gain, self.length = 1.0, np.inf, 0.0
        self.calls = self.steps = self.grown = 0
        self.active = np.isin(np.arange(n), self._generator().permutation(n)[:2])
        self.place, self.former, self.x = np.zeros(self._most), np.zeros(self._most), start.copy()

    @property
    def state(self) -> dict[str, Any]:
        """What it remembers, arrays and numbers by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        for name, value in state.items():
            setattr(self, name, value if np.ndim(value) else np.asarray(value).item())

    def step(self) -> None:
        """Evaluate one minibatch at `x`, renew its model and go to the minimum of all models."""
        if self.k + 2 > self._most < self._start.size:
            self._collapse()
        i = self._chosen()
        found, failed = (self.place, *self._at(i, self.place)), False
        if self._bad(i, *found[1:]):
            former = (self.former, *self._at(i, self.former))
            found = self._nearer(i, found, former[1])
            failed = not found[1] < former[1]
            # Both are remembered, the better one last, from which it goes on.
            found, other = (former, found) if failed else (found, former)
            self._remember(i, *other)
            self.scale = max(self.scale / 2, SHORTEST)
        else:
            self.scale += (1 - self.scale) / len(self.b)
        self.length += float(np.linalg.norm(found[0] - self.former))
        self.place = found[0]
        self._remember(i, *found)
        self._renew(i)
        self._go(failed)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng((self._seed, self.calls))

    def _parameters(self, place: np.ndarray) -> np.ndarray:
        moved = place[: self.k].astype(self.basis.dtype) @ self.basis[: self.k]
        return self._start + moved

    def _at(self, i: int, place: np.ndarray) -> tuple[float, np.ndarray]:
        self.calls += 1
        return self._evaluate(i, self._parameters(place), self.calls)

    def _chosen(self) -> int:
        """The active minibatch that was evaluated farthest away, by the Hessian; those seen less than twice first."""
        few = np.flatnonzero(self.active & (self.evaluations < 2))
        if few.size:
            return int(self._generator().choice(few))
        away = self.place - self.places
        distance = np.where(self.active, np.einsum("ik,kl,il->i", away, self._hessian(), away, optimize=True), -1.0)
        return int(distance.argmax())

    def _hessian(self) -> np.ndarray:
        """Of the sum of all models."""
        scaled = self.v[self.active] * self.d[self.active][:, None]
        low_rank = np.tensordot(scaled, self.v[self.active], ((0, 2), (0, 2)))
        return low_rank + np.eye(self._most) * self.b[self.active].sum()

    def _times(self, i: int | slice | np.ndarray, moved: np.ndarray) -> np.ndarray:
        """The Hessians of minibatches `i` times a row of `moved` each."""
        inside = np.einsum("ikr,ik->ir", self.v[i], moved) * self.d[i]
        return self.b[i][:, None] * moved + np.einsum("ikr,ir->ik", self.v[i], inside)

    def _bad(self, i: int, loss: float, grad: np.ndarray) -> bool:
        """Whether the loss is so much above what was to be expected that the last step may have been too long."""
        known = self.losses[self.evaluations > 0]
        if not np.isfinite(loss) or not np.isfinite(grad).all():
            return True
        if not self.evaluations[i]:
            return bool(known.size and loss > known.mean() + 3 * known.std())
        # By more than all other minibatches were to gain.
        predicted = self._predicted(i)
        return loss > self.losses[i] and loss - predicted > self.gain - (self.losses[i] - predicted)

    def _predicted(self, i: int) -> float:
        away = self.place - self.places[i]
        curved = self._times(slice(i, i + 1), away[None])[0]
        return float(self.losses[i] + self.grads[i] @ away + curved @ away / 2)

    def _nearer(self, i: int, found: Evaluated, before: float) -> Evaluated:
        """What was found, or what is nearer to the former place if the loss exploded."""
        expected = max(abs(self._predicted(i) - self.losses[i]), TINY) if self.evaluations[i] else TINY
        for _ in range(10):
            if found[1] - before < 10 * expected:
                break
            place = 0.99 * self.former + 0.01 * found[0]
            found = (place, *self._at(i, place))
        return found

    def _widen(self, grad: np.ndarray) -> None:
        """Add a gradient's direction to the basis."""
        length = np.linalg.norm(grad)
        if self.k < self._most and length > 0:
            new = grad / length
            for _ in range(2):  # twice is enough for rounding
                new = new - (self.basis[: self.k] @ new) @ self.basis[: self.k]
                size = np.linalg.norm(new)
                if size < 100 * np.finfo(new.dtype).eps:
                    return
                new /= size
            self.basis[self.k] = new
            self.k += 1

    def _collapse(self) -> None:
        """Keep of the basis what the last places and gradients span."""
        rows = [*self.grads[self.active], *self.places[self.active], self.place, self.former]
        turn, self.k = np.zeros((self._most, self._most)), len(rows)
        turn[:, : self.k] = np.linalg.qr(np.stack(rows, axis=1))[0]
        self.basis[: self.k] = turn[:, : self.k].T.astype(self.basis.dtype) @ self.basis
        self.basis[self.k :] = 0
        self.places, self.grads, self.place, self.former = (
            array @ turn for array in (self.places, self.grads, self.place, self.former)
        )
        self.v = np.einsum("ikr,kl->ilr", self.v, turn, optimize=True)
        self.moves = self.moves @ turn

    def _remember(self, i: int, place: np.ndarray, loss: float, grad: np.ndarray) -> None:
        """What a minibatch was there, and the change since it was evaluated before."""
        if not np.isfinite(loss) or not np.isfinite(grad).all():
            return
        self._widen(grad)
        seen = np.zeros(self._most)
        seen[: self.k] = self.basis[: self.k] @ grad
        moved, changed = place - self.places[i], seen - self.grads[i]
        if self.evaluations[i] and min(np.linalg.norm(moved), np.linalg.norm(changed)) > TINY:
            self.moves[i] = np.concatenate([[[moved, changed]], self.moves[i, :-1]])
        self.places[i], self.losses[i], self.grads[i] = place, loss, seen
        self.evaluations[i] += 1

    def _renew(self, i: int) -> None:
        """BFGS of one minibatch, in the span of its history, the oldest change first."""
        self.v[i], self.d[i] = 0, 0
        moves = self.moves[i][self.moves[i].any(axis=(1, 2))]
        if not len(moves):
            others = self.evaluations > 1
            self.b[i] = np.median(np.linalg.eigvalsh(self._hessian())) / self.active.sum() if others.any() else STEEPEST
            return
        s, y = moves.transpose(1, 2, 0)  # (k, changes)
        span = np.linalg.qr(np.concatenate([s, y], axis=1))[0]
        s, y = (span.T @ x / np.linalg.norm(s, axis=0) for x in (s, y))
        # The least curvature that the changes show: of H in y = H s.
        sizes = np.linalg.svd(y @ np.linalg.pinv(s), compute_uv=False)[: s.shape[1]]
        self.b[i] = max(sizes.min(), TRUSTED * sizes.max())
        hessian = self.b[i] * np.eye(span.shape[1])
        for move, change in zip(s.T[::-1], y.T[::-1], strict=True):
            along, both = hessian @ move, change @ move
            if abs(both) > TINY and move @ along > TINY:
                hessian += np.outer(change, change) / both - np.outer(along, along) / (move @ along)
        values, vectors = np.linalg.eigh(hessian)
        positive = values[values > 0]
        values[values < TRUSTED * abs(values).max()] = np.median(positive) if positive.size else sizes.max()
        self.v[i, :, : values.size], self.d[i, : values.size] = span @ vectors, values - self.b[i]

    def _go(self, failed: bool) -> None:
        """Newton's step, and another active minibatch where the gradient's error is as large as the gradient."""
        on = self.active
        grads = self.grads[on] + self._times(on, self.place - self.places[on])
        hessian = self._hessian()
        step = -self.scale * np.linalg.solve(hessian, grads.sum(axis=0))
        if self.calls > len(self.b):
            step *= min(1.0, LONGEST * self.length / self.steps / max(float(np.linalg.norm(step)), TINY))
        self.gain = step @ hessian @ step / 2
        self.former, self.place = self.place, self.place + step
        self.x = self._parameters(self.place)
        self.steps, self.grown = self.steps + 1, self.grown + 1
        if self.evaluations[on].min() > 1 and not on.all():
            mean = self.grads[on].mean(axis=0)
            rest, count = self.grads[on] - mean, on.sum()
            noise = np.sum(rest * np.linalg.solve(hessian, rest.T).T) / (count * (count - 1))
            if failed or self.grown > count or noise >= mean @ np.linalg.solve(hessian, mean):
                self.active[self._generator().choice(np.flatnonzero(~on))] = True
                self.grown = 0
