"""Runs that outlive the command: each is a file that grows, so that a command that was killed goes on where it was.

The name of a file is a hash of its run's key, everything that the run depends on but its length: with another setting
it is another file. It has the key, the values measured so far and, until the run is as long as it will be, the weights
and the optimizer's state of its last epoch.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

SAVED = 60.0
"""Seconds of training after which a run is saved, at the end of the epoch."""

Key = Mapping[str, Any]
"""What a run depends on, as JSON has it."""


class Kept(NamedTuple):
    """What there is of a run.

    Attributes:
        curve: what was measured before training and after each epoch, `(epochs + 1, runs)`.
        leaves: arrays to go on from; none if the run has ended.
        end: what was measured at its end, `(runs,)`; of no runs if it has not ended.
        seconds: that it has taken.
    """

    curve: np.ndarray
    leaves: list[np.ndarray]
    end: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Training:
    """How one run, or several side by side, are trained. What is carried is `(params, state)`, runs first.

    Attributes:
        start: makes what is carried before the first epoch.
        epoch: from an epoch's number, from 1, and what is carried, to what is carried after it.
        measure: from an epoch's number and what is carried to a value `(runs,)`.
        end: from what is carried after the last epoch to another.
    """

    start: Callable[[], Any]
    epoch: Callable[[int, Any], Any]
    measure: Callable[[int, Any], np.ndarray]
    end: Callable[[Any], np.ndarray]


OnEpoch = Callable[[int, np.ndarray, bool], None]
"""Called with an epoch's number, what was measured after it, and whether it was kept from an earlier command."""


@dataclass(frozen=True)
class Runs:
    """The runs in a folder; with none, nothing is kept.

    >>> count = Training(lambda: (np.zeros(1), ()), lambda n, x: (x[0] + n, ()), lambda n, x: x[0], lambda x: x[0])
    >>> Runs().train({"figure": "0"}, count, 3, 3, lambda *epoch: None).curve.ravel().tolist()
    [0.0, 1.0, 3.0, 6.0]
    """

    folder: Path | None = None
    _taken: dict[str, float] = field(default_factory=dict, compare=False, repr=False)

    def seconds(self, figure: str) -> float:
        """That the runs of a figure took which have been asked for, in this command or an earlier one."""
        return sum(seconds for name, seconds in self._taken.items() if name.startswith(f"{figure}-"))

    def train(self, key: Key, training: Training, epochs: int, last: int, on_epoch: OnEpoch) -> Kept:
        """Train for `epochs` epochs, or on to that many. A run none of which is finite any more is not trained on.

        Args:
            key: what the run depends on.
            training: how it is trained.
            epochs: for how many epochs, from the first.
            last: for how many at the most: after those the run has ended.
            on_epoch: called after each epoch.
        """
        kept = self._train(key, training, epochs, last, on_epoch)
        self._taken[_name(key)] = kept.seconds
        return kept

    def _train(self, key: Key, training: Training, epochs: int, last: int, on_epoch: OnEpoch) -> Kept:
        kept = self._load(key)
        have = len(kept.curve) - 1
        if have < epochs and not kept.leaves:  # nothing to go on from
            kept, have = Kept(np.empty((0, 0)), [], np.empty(0), 0.0), -1
        for number in range(1, min(have, epochs) + 1):
            on_epoch(number, kept.curve[number], True)
        if have >= epochs:
            return kept._replace(curve=kept.curve[: epochs + 1])
        carry = training.start()
        if have >= 0:
            carry = jax.tree.unflatten(jax.tree.structure(carry), kept.leaves)
        curve = list(kept.curve) if have >= 0 else [training.measure(0, carry)]
        lost, before, since = _lost(carry), kept.seconds, time.perf_counter()
        saved = since
        for number in range(len(curve), epochs + 1):
            carry = carry if lost else training.epoch(number, carry)
            lost = lost or _lost(carry)
            curve.append(np.full_like(curve[0], np.nan) if lost else training.measure(number, carry))
            on_epoch(number, curve[-1], False)
            if time.perf_counter() - saved > SAVED and number < epochs:
                saved = time.perf_counter()
                self._save(key, Kept(np.array(curve), jax.tree.leaves(carry), np.empty(0), before + saved - since))
        end = training.end(carry) if epochs == last else np.empty(0)
        leaves = [] if epochs == last else jax.tree.leaves(carry)
        kept = Kept(np.array(curve), leaves, end, before + time.perf_counter() - since)
        self._save(key, kept)
        return kept

    def shed(self, key: Key) -> None:
        """Keep only what was measured of a run that will not go on."""
        kept = self._load(key)
        if kept.leaves:
            self._save(key, kept._replace(leaves=[]))

    def _load(self, key: Key) -> Kept:
        path = self._path(key)
        if path is None or not path.exists():
            return Kept(np.empty((0, 0)), [], np.empty(0), 0.0)
        with np.load(path) as file:
            leaves = [file[f"leaf{i}"] for i in range(len(file.files) - 4)]
            return Kept(file["curve"], leaves, file["end"], float(file["seconds"]))

    def _save(self, key: Key, kept: Kept) -> None:
        path = self._path(key)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = kept._asdict() | {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(kept.leaves)}
        del content["leaves"]
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, key=json.dumps(key), **content)
        partial.replace(path)  # whoever is killed while writing leaves the former file

    def _path(self, key: Key) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{_name(key)}.npz"


def _name(key: Key) -> str:
    return f"{key['figure']}-{sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"


def _lost(carry: Any) -> bool:
    """Whether every run has a parameter that is not finite: updates do not make it finite again."""
    params = [np.asarray(leaf) for leaf in jax.tree.leaves(carry[0])]
    finite = [np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in params]
    return not np.logical_and.reduce(finite).any()
