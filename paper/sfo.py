"""Adam beside the sum-of-functions optimizer, section 6.2: a multi-layer perceptron, with dropout and without.

SFO has no step size to search, so Adam has its default. Both have the same initial weights; a pass evaluates as many
images as there are, Adam in minibatches of 128, SFO in √n/10 of them, as its paper recommends.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape

from adamx.diagnostics import drawing
from adamx.examples.models import MLP
from adamx.examples.report import six_digits, versions, writable, write_json
from adamx.flax import take_step

from .images import examples, load
from .optimizers import OPTIMIZERS
from .options import Options
from .progress import LiveEpochs
from .runs import Training
from .sfo_claims import judged as judged
from .sums import SFO
from .sweep import Problem, cost_of, epoch_of, loss_of, started

BATCH_SIZE, RATE, L2 = 128, 1e-3, 1e-4
MAKE = OPTIMIZERS["Adam"]


class Length(NamedTuple):
    """How wide the hidden layers are, how many passes, and into how many minibatches iterations are timed."""

    hidden: tuple[int, ...]
    passes: int
    timed: tuple[int, ...]


FULL, QUICK = Length((256, 256), 20, (24, 50, 100)), Length((16,), 3, (4, 8))


def sfo(options: Options, console: Console) -> None:
    """Train with both, with dropout and without; time iterations, count what is kept; write `sfo.png` and `sfo.json`.

    Args:
        options: how to run; quick runs take a narrower network and fewer passes.
        console: where progress and the claims go.

    Raises:
        FileNotFoundError: some of MNIST's files are there, but not all.
        ValueError: one of them is damaged, or `output` cannot be written.
    """
    writable(options.output, ["sfo.png", "sfo.json"])
    images = load(options)
    length = QUICK if options.quick else FULL
    train, test = examples(images)
    minibatches = max(4, int(np.sqrt(len(train.labels)) / 10))
    about = {"data": images.name, "training_examples": len(train.labels), "hidden": length.hidden, "l2": L2,
             "minibatches": minibatches, "batch_size": BATCH_SIZE, "step size of Adam": RATE}  # fmt: skip

    def problem(dropout: float) -> Problem:
        def model(rngs: nnx.Rngs) -> MLP:
            return MLP(images.image, images.classes, length.hidden, dropout, rngs=rngs)

        return Problem(model, train, test, 0.0 if dropout else L2, key={"figure": "sfo", **about, "dropout": dropout})

    curves = []
    with LiveEpochs(console, 4 * length.passes) as live:
        for dropout in (0.0, 0.5):
            of = problem(dropout)
            for name, training in (("Adam", adam(of)), ("SFO", sums(of, minibatches))):
                told = live.told(f"{name}, {dropout:.0%} dropout")
                kept = options.runs.train(
                    {**of.key, "optimizer": name}, training, length.passes, length.passes,
                    lambda number, values, kept, told=told: told(number, kept),
                )  # fmt: skip
                cost, spent = kept.curve.T.tolist()
                curves.append({"name": name, "dropout": dropout, "cost": list(map(six_digits, cost)),
                               "cpu_seconds": list(map(six_digits, spent))})  # fmt: skip
    iterations = [timed(problem(0.0), n) for n in length.timed]
    content: dict[str, Any] = {
        "settings": {"quick": options.quick, **about, "passes": length.passes},
        "versions": versions(),
        "seconds": round(options.runs.seconds("sfo"), 1),
        "curves": curves,
        "iterations": iterations,
    }
    claims = judged(content)
    layers = "-".join(map(str, (*length.hidden, images.classes)))
    title = f"Adam and SFO on {images.name}, a multi-layer perceptron {layers}"
    drawing.save(draw(content, title), options.output / "sfo.png")
    write_json(options.output / "sfo.json", {**content, "claims": [claim._asdict() for claim in claims]})
    for claim in claims:
        console.print(f"{claim.source} {claim.claim} [bold]{claim.verdict}[/]: {escape(claim.told)}", highlight=False)
    console.print(f"Wrote {options.output / 'sfo.png'} and {options.output / 'sfo.json'}", soft_wrap=True)


class Flat(NamedTuple):
    """A problem of one vector of parameters.

    Attributes:
        start: float32 `(m,)`.
        minibatch: from a vector, examples and a key of dropout to the loss and its gradient.
        cost: from a vector to the cost on all examples, with one draw of dropout.
    """

    start: np.ndarray
    minibatch: Callable[..., tuple[jax.Array, jax.Array]]
    cost: Callable[[np.ndarray], float]


def flat(problem: Problem) -> Flat:
    """The same initial weights and the same draw of dropout for the cost as in a sweep from seed 0."""
    graph, initial, other = nnx.split(problem.model(nnx.Rngs(0)), nnx.Param, ...)
    start, tree = ravel_pytree(initial)
    _, masks = jax.random.split(jax.random.key(0))
    data = jax.device_put(problem.train)

    def loss(x: jax.Array, inputs: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        return loss_of(graph, problem.l2, tree(x), other, inputs, labels, key)

    def cost(x: np.ndarray) -> float:
        params = jax.tree.map(lambda leaf: leaf[None], tree(jnp.asarray(x)))
        return float(cost_of(graph, problem.l2, params, other, data, masks)[0])

    return Flat(np.asarray(start), jax.jit(jax.value_and_grad(loss)), cost)


def evaluator(problem: Problem, of: Flat, minibatches: int) -> Callable[[int, np.ndarray, int], Any]:
    """What SFO evaluates: the minibatches are the same in all passes, dropout is drawn anew at every call."""
    order = np.random.default_rng(0).permutation(len(problem.train.labels))
    size = len(order) // minibatches
    parts = [order[i * size : (i + 1) * size] for i in range(minibatches)]
    data = [(jnp.asarray(problem.train.inputs[part]), jnp.asarray(problem.train.labels[part])) for part in parts]

    def evaluate(i: int, x: np.ndarray, call: int) -> tuple[float, np.ndarray]:
        loss, grad = of.minibatch(x, *data[i], jax.random.key(call))
        return float(loss), np.asarray(grad)

    return evaluate


def sums(problem: Problem, minibatches: int) -> Training:
    """SFO; what is measured is the cost, and the processor's seconds in steps so far."""
    of = flat(problem)
    opt = SFO(evaluator(problem, of, minibatches), minibatches, of.start)

    def passed(number: int, carry: Any) -> Any:
        del number
        (_, state), since = carry, time.process_time()
        opt.restore(state["sfo"])
        for _ in range(minibatches):
            opt.step()
        return (opt.x[None],), {"sfo": opt.state, "spent": state["spent"] + time.process_time() - since}

    return Training(
        lambda: ((opt.x[None],), {"sfo": opt.state, "spent": np.zeros(())}),
        passed,
        lambda number, carry: np.array([of.cost(np.asarray(carry[0][0][0])), float(carry[1]["spent"])]),
        lambda carry: np.zeros(1),
    )


def adam(problem: Problem) -> Training:
    """Adam, measured likewise."""
    graph, initial, other = nnx.split(problem.model(nnx.Rngs(0)), nnx.Param, ...)
    order, masks = jax.random.split(jax.random.key(0))
    rates, data = jnp.array([RATE], jnp.float32), jax.device_put(problem.train)

    def passed(number: int, carry: Any) -> Any:
        params, state = carry
        key, since = jax.random.fold_in(order, number), time.process_time()
        carry = epoch_of(graph, MAKE, problem.l2, BATCH_SIZE, rates, key, (params, state["adam"]), other, data)
        params, inner = jax.block_until_ready(carry)
        return params, {"adam": inner, "spent": state["spent"] + time.process_time() - since}

    def start() -> Any:
        params, state = started(MAKE, rates, initial)
        return params, {"adam": state, "spent": np.zeros(())}

    def measure(number: int, carry: Any) -> np.ndarray:
        del number
        cost = cost_of(graph, problem.l2, carry[0], other, data, masks)
        return np.array([float(cost[0]), float(carry[1]["spent"])])

    return Training(start, passed, measure, lambda carry: np.zeros(1))


def timed(problem: Problem, minibatches: int) -> dict[str, Any]:
    """The processor's median seconds for an iteration of each on the same minibatches, in turns, and numbers kept.

    SFO is timed when its subspace has been full once.
    """
    of = flat(problem)
    evaluate = evaluator(problem, of, minibatches)
    opt, make = SFO(evaluate, minibatches, of.start), jax.jit(lambda g, s, x: take_step(MAKE(RATE), g, s, x))
    x, state = jnp.asarray(of.start), MAKE(RATE).init(jnp.asarray(of.start))
    taken: list[tuple[float, float]] = []
    for i in range(4 * minibatches):
        begin = time.process_time()
        opt.step()
        middle = time.process_time()
        _, grad = evaluate(i % minibatches, np.asarray(x), i)
        x, state = jax.block_until_ready(make(jnp.asarray(grad), state, x))
        taken.append((middle - begin, time.process_time() - middle))
    ours, theirs = np.median(taken[-minibatches:], axis=0)
    numbers = sum(np.size(value) for value in opt.state.values()) / of.start.size
    adams = sum(np.size(leaf) for leaf in jax.tree.leaves(state)) / of.start.size
    return {"minibatches": minibatches, "sfo_seconds": six_digits(ours), "adam_seconds": six_digits(theirs),
            "sfo_numbers": six_digits(numbers), "adam_numbers": six_digits(adams)}  # fmt: skip


def draw(content: dict[str, Any], title: str) -> Figure:
    """The cost against passes, with dropout and without, and against the processor's seconds without."""
    figure = drawing.figure(14, 4.6)
    panels = ((0.0, "", "pass"), (0.5, "", "pass"), (0.0, "cpu_seconds", "CPU seconds"))
    for axes, (dropout, key, label) in zip(figure.subplots(1, 3), panels, strict=True):
        for place, curve in enumerate(one for one in content["curves"] if one["dropout"] == dropout):
            cost = np.array(curve["cost"], float)
            axes.plot(curve[key] if key else np.arange(len(cost)), cost, label=curve["name"], **drawing.line(place))
        axes.set_title(f"{dropout:.0%} dropout" if dropout else "no dropout", loc="left", fontsize=10)
        axes.set(xlabel=label, ylabel="training cost (nats)", yscale="log")
        drawing.style(axes)
        axes.legend(frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    return figure
