"""Training the language model by several optimizers, each tuned over the same number of trials."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import adamx

from .language_model import Settings, Text, Transformer, loss
from .stored_training import evaluate

FACTORS = (1.0, 0.5, 2.0, 0.25, 4.0)
"""The step sizes that are tried, to the contender's `rate`."""


@dataclass(frozen=True, eq=False)
class Contender:
    """An optimizer, and what is tried of it: each step size, and then at the best of them the other hyperparameter.

    Attributes:
        name: what tables call it.
        make: from the schedule of the step size, and a value of the other hyperparameter, to the optimizer.
        rate: the step size in the middle.
        other: the name of the other hyperparameter.
        values: its values; the first is the one that step sizes are tried with.
        decays: whether the step size falls to 0 at the end.
        judged: from the state and the weights to the weights that are judged.
    """

    name: str
    make: Callable[[Any, Any], Any]
    rate: float
    other: str
    values: tuple[Any, ...]
    decays: bool = True
    judged: Callable[[Any, Any], Any] = lambda state, params: params


class Setting(NamedTuple):
    """What was tried: the peak of the step size, and the other hyperparameter."""

    rate: float
    other: Any


class Run(NamedTuple):
    """One training run: steps, and the validation loss after them; bytes of the optimizer's state a parameter."""

    seed: int
    rate: float
    other: Any
    steps: list[int]
    losses: list[float]
    state_bytes: float

    @property
    def setting(self) -> Setting:
        """What it was a trial of."""
        return Setting(self.rate, self.other)

    @property
    def final(self) -> float:
        """The last loss; infinite if it is not a number."""
        return self.losses[-1] if np.isfinite(self.losses[-1]) else np.inf


def _decaying(make: Callable[..., Any], name: str, **fixed: Any) -> Callable[[Any, Any], Any]:
    return lambda rate, value: make(rate, weight_decay=0.1, **{name: value}, **fixed)


def _muon(**variant: Any) -> Callable[[Any, Any], Any]:
    """Muon at the scale of AdamW's steps, and AdamW at the same step size for embedding, head and norms."""

    def make(rate: Any, beta: float) -> Any:
        rest = adamx.adamw(rate, b2=0.95, weight_decay=0.1)
        return adamx.muon(rate, beta=beta, scale="rms", rest=rest, matrices="blocks", weight_decay=0.1, **variant)

    return make


B2 = (0.99, 0.999, 0.95)

CONTENDERS = (
    Contender("AdamW", _decaying(adamx.adamw, "b2"), 4e-3, "b2", B2),
    Contender("NAdamW", _decaying(adamx.nadamw, "b2"), 4e-3, "b2", B2),
    Contender("AdEMAMix", _decaying(adamx.ademamix, "alpha", b2=0.99, b3=0.99), 2e-3, "alpha", (2.0, 5.0, 1.0)),
    Contender(
        "Schedule-Free AdamW",
        _decaying(adamx.schedule_free_adamw, "b1"),
        8e-3,
        "b1",
        (0.9, 0.95, 0.98),
        False,
        adamx.schedule_free_eval_params,
    ),
    Contender("Muon", _muon(), 4e-3, "beta", (0.95, 0.9, 0.98)),
    Contender("NorMuon", _muon(second_moment="rows"), 4e-3, "beta", (0.95, 0.9, 0.98)),
    Contender("SOAP", _decaying(adamx.soap, "frequency"), 4e-3, "frequency", (10, 5, 2)),
)
"""The first is what the others are measured against."""


def schedule(peak: float, settings: Settings, decays: bool) -> Callable[[jax.Array], Any]:
    """A linear warm-up, and then a cosine to 0 or the peak."""
    warmup = optax.linear_schedule(0.0, peak, settings.warmup)
    decay = optax.cosine_decay_schedule(1.0, settings.steps) if decays else optax.constant_schedule(1.0)

    def rate(count: jax.Array) -> Any:
        done = count.astype(float)
        return warmup(done + 1) * decay(done)

    return rate


class Trainer:
    """The compiled programs of a contender's setting."""

    def __init__(self, contender: Contender, setting: Setting, settings: Settings, text: Text) -> None:
        opt = contender.make(schedule(setting.rate, settings, contender.decays), setting.other)
        self.settings, self.setting, self.text = settings, setting, text
        graph, _ = nnx.split(nnx.eval_shape(lambda: Transformer(settings, rngs=nnx.Rngs(0))))
        reading, judging = jnp.asarray(text.train), jnp.asarray(text.validation)

        def step(carry: Any, starts: jax.Array) -> tuple[Any, None]:
            params, state = carry
            grads = jax.grad(lambda p: loss(graph, p, reading, starts, settings.context))(params)
            return opt.step(grads, state, params), None

        self.init = jax.jit(opt.init)
        self.train = jax.jit(lambda carry, order: jax.lax.scan(step, carry, order)[0], donate_argnums=0)
        self.judge = jax.jit(lambda carry: evaluate(graph, settings, contender.judged(carry[1], carry[0]), judging))

    def start(self, seed: int) -> tuple[Any, np.ndarray]:
        """The weights and state before the first step, and the first bytes of the windows of each step."""
        params = nnx.state(Transformer(self.settings, rngs=nnx.Rngs(seed)))
        last, shape = len(self.text.train) - self.settings.context - 1, (self.settings.steps, self.settings.batch)
        return (params, self.init(params)), np.random.default_rng(seed).integers(0, last, shape, np.int32)

    def run(self, seed: int) -> Run:
        """One training run."""
        carry, order = self.start(seed)
        params, state = carry
        state_bytes = sum(x.nbytes for x in jax.tree.leaves(state)) / sum(x.size for x in jax.tree.leaves(params))
        steps = np.linspace(0, self.settings.steps, self.settings.evaluations + 1).astype(int).tolist()
        losses = [float(self.judge(carry))]
        for first, end in pairwise(steps):
            carry = self.train(carry, order[first:end])
            losses.append(float(self.judge(carry)))
        return Run(seed, *self.setting, steps, losses, state_bytes)


class Tuning:
    """The runs of all contenders, each in a file of its own, so that a command that was killed goes on.

    Attributes:
        settings, text: what they learn.
        folder: where runs are kept.
        say: hears of each run that has ended.
    """

    def __init__(self, settings: Settings, text: Text, folder: Path, say: Callable[[str], None]) -> None:
        self.settings, self.text, self.folder, self.say = settings, text, folder, say

    def runs(self, contender: Contender, setting: Setting, seeds: Sequence[int]) -> list[Run]:
        """The runs of a setting from these seeds."""
        trainer, found = None, []
        for seed in seeds:
            words = (contender.name, *setting, seed, *asdict(self.settings).values())
            path = self.folder / ("_".join(str(word).replace(" ", "-") for word in words) + ".json")
            if not path.exists():
                trainer = trainer or Trainer(contender, setting, self.settings, self.text)
                self.folder.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(trainer.run(seed)._asdict()), encoding="utf-8")
            found.append(Run(**json.loads(path.read_text(encoding="utf-8"))))
            tried = f"{setting.rate:g}, {contender.other} {setting.other}"
            self.say(f"{contender.name}: {tried}, seed {seed}: {found[-1].final:.4f}")
        return found

    def trials(self, contender: Contender) -> list[Run]:
        """Every step size, then every other value at the best of them: from one seed, which is not compared."""
        tried = [Setting(factor * contender.rate, contender.values[0]) for factor in FACTORS]
        found = [run for setting in tried for run in self.runs(contender, setting, [0])]
        best = min(found, key=lambda run: run.final)
        others = [Setting(best.rate, value) for value in contender.values[1:]]
        return found + [run for setting in others for run in self.runs(contender, setting, [0])]


def step_seconds(
    settings: Settings, text: Text, best: Sequence[tuple[Contender, Setting]], turns: int = 7
) -> list[float]:
    """The median time of a training step of each contender, in turns of ten steps."""
    trainers = [Trainer(contender, setting, settings, text) for contender, setting in best]
    carries, orders = zip(*(trainer.start(0) for trainer in trainers), strict=True)
    carries, times = [*carries], [[] for _ in trainers]
    for turn in range(turns + 1):
        for i, trainer in enumerate(trainers):
            begin = time.perf_counter()
            carries[i] = jax.block_until_ready(trainer.train(carries[i], orders[i][10 * turn : 10 * turn + 10]))
            times[i].append((time.perf_counter() - begin) / 10)
    return [median(seconds[1:]) for seconds in times]  # the first turn compiles
