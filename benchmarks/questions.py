"""Which ε? Is a schedule still needed? What does Nesterov momentum do? Readers' questions, answered by runs.

`python -m benchmarks.questions [epsilon | schedule | momentum]`. Every number is the mean over the same seeds ± their
standard deviation; a seed fixes the start and the noise (or the minibatches), for all optimizers alike.
`docs/choosing.md` shows the tables.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

import adamx

from .trials import (
    SEEDS,
    Best,
    Make,
    Params,
    Problem,
    Spread,
    best,
    digits,
    minimise,
    quadratic,
    spread,
    sweep,
)

B2 = adamx.Adam.b2
EPSILONS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RATES = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
HORIZONS = (100, 300, 1000)
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


# How do I find a good epsilon?


class AtEpsilon(NamedTuple):
    """Adam with one ε: loss at the step size best for it and at the one best for 1e-8, and how much ε dominates."""

    best: Best
    unchanged: Spread
    share: float


def root_of_v_hat(state: optax.OptState) -> jax.Array:
    """√v̂ of all elements of Adam's state, in one array."""
    t = optax.tree.get(state, "count").astype(jnp.float32)
    nu = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(optax.tree.get(state, "nu"))])
    return jnp.sqrt(nu / -jnp.expm1(t * np.log(B2)))


def _adam(rate: jax.Array, eps: jax.Array) -> optax.GradientTransformation:
    return adamx.adam(rate, eps=eps)


def by_epsilon(
    problem: Problem,
    steps: int = 500,
    seeds: int = SEEDS,
    epsilons: Sequence[float] = EPSILONS,
    rates: Sequence[float] = RATES,
) -> dict[float, AtEpsilon]:
    """Final loss on a grid of ε and step sizes, and the share of elements with 0 < √v̂ < ε at the last step."""
    eps, rate = (axis.ravel() for axis in jnp.meshgrid(jnp.array(epsilons), jnp.array(rates), indexing="ij"))
    shape = len(epsilons), len(rates), seeds

    def measure(params: Params, state: optax.OptState) -> tuple[jax.Array, jax.Array]:
        return problem.loss(params), root_of_v_hat(state)

    losses, roots = sweep(_adam, problem, measure, (rate, eps), steps, seeds)
    losses, roots = np.asarray(losses).reshape(shape), np.asarray(roots).reshape(*shape, -1)
    found = [best(rates, row) for row in losses]
    usual = rates.index(found[int(np.argmin(np.abs(np.log(epsilons) - np.log(1e-8))))].rate)

    def share(i: int) -> float:
        seen = roots[i, rates.index(found[i].rate)]
        return float(np.mean(seen[seen > 0] < epsilons[i]))

    return {e: AtEpsilon(found[i], spread(losses[i, usual]), share(i)) for i, e in enumerate(epsilons)}


def quantiles(
    problem: Problem, rate: float, steps: Sequence[int] = (1, 50, 500), seeds: int = SEEDS
) -> dict[int, np.ndarray]:
    """QUANTILES of √v̂ after each number of steps of Adam at its default ε, elements that saw no gradient left out."""

    def measure(params: Params, state: optax.OptState) -> jax.Array:
        return root_of_v_hat(state)

    grid = jnp.array([rate]), jnp.array([adamx.Adam.eps])
    roots = {t: np.asarray(sweep(_adam, problem, measure, grid, t, seeds)) for t in steps}
    return {t: np.quantile(root[root > 0], QUANTILES) for t, root in roots.items()}


def first_steps(gradients: Sequence[float] = (1e-4, 1e-6, 1e-7, 1e-8), eps: float = 1e-8) -> dict[str, np.ndarray]:
    """The first step in units of the step size, for each size of a gradient, with ε beside √v̂ and beside √v."""
    g = jnp.array(gradients)
    constant = Problem(lambda key: jnp.zeros_like(g), lambda x, key: g, jnp.sum)

    def step(eps_hat: bool) -> np.ndarray:
        opt = adamx.adam(1.0, eps=eps, eps_hat=eps_hat)
        return -np.asarray(minimise(opt, constant.gradient, constant.start, 1, 1)[0][0])

    return {"eps": step(False), "eps_hat": step(True)}


# Is a learning-rate schedule still needed with Adam?


class Outcome(NamedTuple):
    """What the final weights are worth."""

    loss: Spread
    accuracy: Spread


class Schedule(NamedTuple):
    """A way to end a run: from a step size to an optimizer, and from its last state to the weights to use."""

    make: Make
    weights: Callable[[Params, optax.OptState], Params]


def schedules(steps: int) -> dict[str, Schedule]:
    """Ways to end a run of `steps` steps; the exponential average looks back over a tenth of it."""

    def last(params: Params, state: optax.OptState) -> Params:
        return params

    def averaged(params: Params, state: optax.OptState) -> Params:
        return adamx.averaged_params(state)

    def schedule_free(params: Params, state: optax.OptState) -> Params:
        return adamx.schedule_free_eval_params(state, params)

    def cosine(rate: jax.Array) -> Any:
        return optax.cosine_decay_schedule(rate, steps)

    decay = 1 - 10 / steps
    return {
        "constant": Schedule(adamx.adam, last),
        "1/√t": Schedule(lambda rate: adamx.adam(adamx.schedules.inverse_sqrt(rate)), last),
        "cosine to 0": Schedule(lambda rate: adamx.adam(cosine(rate)), last),
        f"constant, averaging({decay:g})": Schedule(
            lambda rate: optax.chain(adamx.adam(rate), adamx.averaging(decay)), averaged
        ),
        "schedule_free_adamw": Schedule(adamx.schedule_free_adamw, schedule_free),
    }


def by_schedule(problem: Problem, rates: Sequence[float], steps: int, seeds: int = SEEDS) -> dict[str, list[Outcome]]:
    """What each schedule's final weights are worth, for each step size."""

    def outcomes(schedule: Schedule) -> list[Outcome]:
        def measure(params: Params, state: optax.OptState) -> tuple[jax.Array, jax.Array]:
            weights = schedule.weights(params, state)
            return problem.loss(weights), problem.accuracy(weights)

        found = sweep(schedule.make, problem, measure, (jnp.array(rates),), steps, seeds)
        return [Outcome(spread(loss), spread(right)) for loss, right in zip(*found, strict=True)]

    return {name: outcomes(schedule) for name, schedule in schedules(steps).items()}


def pure_noise(b1: float = 0.9, steps: int = 10_000, dim: int = 4096) -> float:
    """Adam's root mean square step in units of the step size, when every gradient is independent noise."""
    opt = adamx.adam(1.0, b1=b1)
    _, state = minimise(opt, lambda x, key: jax.random.normal(key, (dim,)), lambda key: jnp.zeros(dim), steps, 1)
    mean = optax.tree.get(state, "mu")[0]  # the correction by 1 - b1^t is over long before the last step
    return float(jnp.sqrt(jnp.mean((mean / root_of_v_hat(jax.tree.map(lambda x: x[0], state))) ** 2)))


# What is Nesterov momentum here?

NESTEROV: Mapping[str, Make] = {
    "adam": adamx.adam,
    "adam(b1=.98)": lambda rate: adamx.adam(rate, b1=0.98),
    "nadam": adamx.nadam,
    "nadam, Dozat's schedule": lambda rate: adamx.nadam(rate, momentum_decay=4e-3),
    "Nesterov(Adam())": lambda rate: adamx.optimizer(adamx.Nesterov(adamx.Adam()), rate),
    "adan": adamx.adan,
}


def by_momentum(
    problem: Problem,
    horizons: Sequence[int] = HORIZONS,
    seeds: int = SEEDS,
    rates: Sequence[float] = RATES,
    makes: Mapping[str, Make] = NESTEROV,
) -> dict[str, list[Best]]:
    """The loss after each number of steps, at the step size best for that number."""

    def measure(params: Params, state: optax.OptState) -> jax.Array:
        return problem.loss(params)

    def found(make: Make) -> list[Best]:
        return [best(rates, sweep(make, problem, measure, (jnp.array(rates),), steps, seeds)) for steps in horizons]

    return {name: found(make) for name, make in makes.items()}


# Tables


def epsilon_table(title: str, answer: Mapping[float, AtEpsilon]) -> Table:
    table = Table("ε", "loss, step size", "loss at the step size of 1e-8", "√v̂ < ε", title=title)
    for eps, row in answer.items():
        table.add_row(f"{eps:.0e}", str(row.best), str(row.unchanged), f"{row.share:.0%}")
    return table


def quantile_table(title: str, answer: Mapping[int, np.ndarray]) -> Table:
    table = Table("step", *(f"{q:.0%}" for q in QUANTILES), title=title)
    for step, values in answer.items():
        table.add_row(str(step), *(f"{value:.0e}" for value in values))
    return table


def first_step_table(gradients: Sequence[float] = (1e-4, 1e-6, 1e-7, 1e-8)) -> Table:
    table = Table("", *(f"g = {g:g}" for g in gradients), title="First step / step size, ε = 1e-8")
    for name, values in first_steps(gradients).items():
        table.add_row(name, *(f"{value:.3f}" for value in values))
    return table


def schedule_table(title: str, rates: Sequence[float], answer: Mapping[str, Sequence[Outcome]]) -> Table:
    table = Table("", *(f"step size {rate:g}" for rate in rates), title=title)
    for name, row in answer.items():
        table.add_row(name, *(f"{loss}{_percentage(right)}" for loss, right in row))
    return table


def _percentage(share: Spread) -> str:
    return "" if np.isnan(share.mean) else f", {100 * share.mean:.1f} ± {share.deviation:.1%}"


def momentum_table(title: str, answer: Mapping[str, Sequence[Best]], horizons: Sequence[int] = HORIZONS) -> Table:
    table = Table("", *(f"{steps} steps" for steps in horizons), title=title)
    for name, row in answer.items():
        table.add_row(name, *map(str, row))
    return table


def print_epsilon(console: Console) -> None:
    for problem, name in ((digits(), "digits MLP"), (quadratic(scale=1e-6), "noisy quadratic, gradients of 1e-6")):
        answer = by_epsilon(problem)
        console.print(quantile_table(f"√v̂, quantiles: {name}", quantiles(problem, answer[1e-8].best.rate)))
        console.print(epsilon_table(f"Loss after 500 steps: {name}", answer))
    console.print(first_step_table())


def print_schedule(console: Console) -> None:
    floor = np.sqrt((1 - adamx.Adam.b1) / (1 + adamx.Adam.b1))
    console.print(f"RMS step / step size on pure noise: {pure_noise():.3f}; √((1-b1)/(1+b1)) = {floor:.3f}")
    for problem, name, rates, steps in (
        (quadratic(), "noisy quadratic: loss", (1e-3, 3e-3, 1e-2, 1e-1), 10_000),
        (digits(), "digits MLP: training loss, held-out accuracy", (1e-2, 3e-2, 1e-1), 1000),
        (digits(mislabelled=0.2), "digits MLP, a fifth of the training labels random", (3e-3, 1e-2, 3e-2), 1000),
    ):
        answer = by_schedule(problem, rates, steps)
        console.print(schedule_table(f"After {steps} steps, {name}", rates, answer))


def print_momentum(console: Console) -> None:
    for noise in (0.0, 0.1):
        answer = by_momentum(quadratic(condition=1e4, noise=noise, rotated=True))
        console.print(
            momentum_table(f"Loss, best step size: rotated quadratic, condition 1e4, noise {noise:g}", answer)
        )
    console.print(momentum_table("Training loss, best step size: digits MLP", by_momentum(digits(), rates=RATES[:4])))


ANSWERS = {"epsilon": print_epsilon, "schedule": print_schedule, "momentum": print_momentum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("question", nargs="?", choices=ANSWERS, help="all, if left out")
    asked = parser.parse_args().question
    console = Console(width=130)
    console.print(
        f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].device_kind}, {os.cpu_count()} cores; "
        f"{SEEDS} seeds, mean ± standard deviation; *: best step size at the edge of its grid"
    )
    for answer in (ANSWERS[asked],) if asked else ANSWERS.values():
        begin = time.perf_counter()
        answer(console)
        console.print(f"({time.perf_counter() - begin:.0f} s)\n")


if __name__ == "__main__":
    main()
