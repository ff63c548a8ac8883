"""The Adam paper's figure 3: a convolutional network with whitening and dropout, in its early and late epochs.

On CIFAR-10 where `data_dir` has it; else on MNIST, which has as many images but no colours, or on scikit-learn's 8x8
digits, with a network that is narrower in proportion.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console
from rich.markup import escape

import adamx
from adamx.diagnostics import drawing
from adamx.diagnostics.drawing import COLOURS, DASHES
from adamx.examples.data import Dataset, cifar10
from adamx.examples.figures import whole_epochs
from adamx.examples.protocol import Contender, Settings
from adamx.examples.report import versions, writable, write_json

from .claims import Claim
from .comparison import Comparison, Line, as_dict, compare, from_dict, table
from .conv import DeepCNN
from .cost_panels import places
from .figure3_claims import WITHOUT_FIRST, order_claims
from .images import examples, load
from .narrow import Stage, epochs_to_come
from .optimizers import OPTIMIZERS, half_decades
from .options import Options
from .progress import LiveEpochs, LiveSweeps
from .runs import Runs
from .second_moment import Moment, second_moments
from .sweep import Problem
from .whitening import whitened

GRIDS = {
    "Adam": (3e-4, 3e-2),
    "AdaGrad": (3e-3, 0.3),
    "SGD + Nesterov": (3e-3, 0.3),
    WITHOUT_FIRST: (3e-4, 3e-2),
}
"""The smallest and the largest step size of each optimizer."""
MNIST_GRIDS = {
    "Adam": (3e-4, 3e-3),
    "AdaGrad": (1e-2, 0.1),
    "SGD + Nesterov": (1e-2, 0.1),
    WITHOUT_FIRST: (3e-4, 3e-3),
}
"""Narrower, for 40 times as many steps an epoch."""
MAKERS = {**OPTIMIZERS, WITHOUT_FIRST: lambda rate: adamx.adam(rate, b1=0.0, kernel="xla")}


@dataclass(frozen=True)
class Plan:
    """How large the experiment is.

    Attributes:
        channels: of the three convolutions.
        hidden: units of the fully connected layer.
        epochs: of the late panel.
        early: epochs of the early panel.
        images: at most so many are trained on; `None` for all.
        shrink: squares of so many pixels on a side become one, their mean.
        every: which step sizes of the grids are tried: 1 for all, half a decade apart; 2 for every other.
        seeds: runs at the best step size, each from other weights and in another order.
        dropout: probabilities, of the input and of the fully connected layer.
        batch_size: images per step.
        cost_every: the cost is taken after each of the first ten epochs, and from there after every so many.
        stages: of the search for a step size; none if a whole grid trains side by side.
    """

    channels: tuple[int, ...] = (64, 64, 128)
    hidden: int = 1000
    epochs: int = 45
    early: int = 3
    images: int | None = None
    shrink: int = 1
    every: int = 1
    seeds: int = 3
    dropout: tuple[float, float] = (0.2, 0.5)
    batch_size: int = 128
    cost_every: int = 1
    stages: tuple[Stage, ...] = ()


COMMAND = "python -m paper figure3"
PAPER = Plan(seeds=1)
MNIST = Plan(channels=(16, 16, 32), hidden=250, epochs=20, shrink=2, seeds=1, cost_every=5, stages=(Stage(3, 1),))
DIGITS = Plan(channels=(16, 16, 32), hidden=250, seeds=2)
PLANS = {"cifar10": PAPER, "mnist": MNIST, "digits": DIGITS}
QUICK = Plan(channels=(8, 8, 16), hidden=64, epochs=15, images=1500, every=2, seeds=1)


def figure3(options: Options, console: Console) -> None:
    """Train with three optimizers, with and without dropout; write `figure3.png` and `figure3.json`, print two tables.

    Args:
        options: how to run; quick runs have a narrower network, fewer epochs and step sizes, one seed, and at most
            1,500 images.
        console: where progress and the tables go.

    Raises:
        FileNotFoundError: CIFAR-10's folder or MNIST is there, but not all of its files.
        ValueError: one of their files is damaged, or `output` cannot be written.

    Reference: Kingma & Ba, arXiv:1412.6980, section 6.3.
    """
    quick, output = options.quick, options.output
    writable(output, ["figure3.png", "figure3.json"])
    raw = at_hand(options)
    plan = QUICK if quick else PLANS[raw.name]
    dataset = whitened(_smaller(_first(raw, plan.images), plan.shrink))
    settings = Settings(plan.epochs, plan.batch_size)
    plain, dropped = search(dataset, plan, settings, console, options.runs)
    rate = plain["Adam"].search.best.learning_rate
    with LiveEpochs(console, settings.epochs) as live:
        told = live.told("Adam's second moment")
        moments = second_moments(_problem(dataset, plan, False), settings, rate, options.runs, told)

    layers = "-".join([f"c{n}" for n in plan.channels] + [str(plan.hidden)])
    title = f"Figure 3: CNN {layers} on whitened {dataset.name}, minibatches of {plan.batch_size}"
    picture, numbers = output / "figure3.png", output / "figure3.json"
    drawing.save(draw(plain, dropped, plan.early, title), picture)
    content = {
        "settings": asdict(plan) | {"data": dataset.name, "images": len(dataset.train_labels), "quick": quick},
        "versions": versions(),
        "seconds": round(options.runs.seconds("figure3"), 1),
        "comparisons": [as_dict(plain), as_dict(dropped)],
        "second_moment": [moment.as_dict() for moment in moments],
    }
    claims = judged(content)
    write_json(numbers, {**content, "claims": [claim._asdict() for claim in claims]})
    console.print(table(plain), table(dropped))
    for claim in claims:
        console.print(f"{claim.source} {claim.claim}: [bold]{claim.verdict}[/]. {escape(claim.told)}", highlight=False)
    console.print(f"Wrote {picture} and {numbers}", highlight=False, soft_wrap=True)


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `figure3.json` says about the paper's claims."""
    plain, dropped = map(from_dict, content["comparisons"])
    moments = [Moment.from_dict(moment) for moment in content["second_moment"]]
    about = content["settings"]
    on = about["data"] if about["data"] in PLANS and not about["quick"] else ""
    return order_claims(plain, dropped, moments, about["early"], f"`{COMMAND}`", on)


def at_hand(options: Options) -> Dataset:
    """CIFAR-10 if its folder is in `data_dir`, else MNIST or the digits."""
    there = (options.data_dir / "cifar-10-batches-bin").exists()
    return cifar10(options.data_dir) if there else load(options)


def search(
    dataset: Dataset, plan: Plan, settings: Settings, console: Console, runs: Runs
) -> tuple[Comparison, Comparison]:
    """The optimizers without dropout and with it, each at the best step size of its grid."""
    grids = MNIST_GRIDS if plan is MNIST else GRIDS
    contenders = [Contender(name, MAKERS[name], half_decades(*ends)[:: plan.every]) for name, ends in grids.items()]
    epochs = 2 * sum(epochs_to_come(contender, settings, plan.stages, plan.seeds) for contender in contenders)
    with LiveSweeps(console, epochs) as on_epoch:
        plain, dropped = (
            compare(
                title,
                _problem(dataset, plan, dropout),
                contenders,
                settings,
                plan.seeds,
                on_epoch,
                runs,
                plan.stages,
                real=plan is PAPER,
            )
            for title, dropout in ((f"no dropout, {dataset.name}", False), (f"dropout, {dataset.name}", True))
        )
    return plain, dropped


def draw(plain: Comparison, dropped: Comparison, early: int, title: str) -> Figure:
    """Training cost at the best step sizes: the first `early` epochs, and all of them on a logarithmic axis.

    A line is the mean of the seeds, the band around it their range.
    """
    figure = drawing.figure(10, 5.4)
    left, right = figure.subplots(1, 2)
    place, seeds = places([line.name for line in plain.lines]), len(plain.lines[0].costs)
    for axes, stop in ((left, early), (right, plain.settings.epochs)):
        handles = [
            _line(axes, line, stop, COLOURS[place[line.name]], DASHES[dashes], suffix)
            for comparison, dashes, suffix in ((plain, 0, ""), (dropped, 1, " + dropout"))
            for line in comparison.lines
        ]
        axes.set_title(f"the first {stop} epochs" if stop == early else f"{stop} epochs", loc="left", fontsize=10)
        whole_epochs(axes)
        axes.set(xlabel=f"epoch of {plain.steps} steps", ylabel="training cost (cross-entropy, nats)")
        drawing.style(axes)
    right.set_yscale("log")
    figure.suptitle(f"{title}; mean and range of {seeds} seeds", x=0.01, ha="left", fontsize=12)
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, handlelength=3.2)
    legend.set_title("optimizer, best step size")
    return figure


def _line(axes: Axes, line: Line, stop: int, colour: str, dashes: object, suffix: str) -> Line2D:
    costs = np.where(np.isfinite(line.costs), line.costs, np.nan)[:, : stop + 1]
    epochs = np.flatnonzero(np.isfinite(costs).any(axis=0))  # where a cost was taken
    costs = costs[:, epochs]
    label = f"{line.name}{suffix}, {line.search.best.learning_rate:g}"
    axes.fill_between(epochs, costs.min(axis=0), costs.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    (handle,) = axes.plot(epochs, costs.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.8, label=label)
    return handle


def _problem(dataset: Dataset, plan: Plan, dropout: bool) -> Problem:
    rates = plan.dropout if dropout else (0.0, 0.0)

    def model(rngs: nnx.Rngs) -> DeepCNN:
        return DeepCNN(dataset.image, dataset.classes, plan.channels, plan.hidden, *rates, rngs=rngs)

    key = {"figure": "figure3", "data": dataset.name, "dropout": rates, "network": [*plan.channels, plan.hidden],
           "image": dataset.image}  # fmt: skip
    return Problem(model, *examples(dataset), every=plan.cost_every, key=key)


def _first(dataset: Dataset, images: int | None) -> Dataset:
    return replace(dataset, train_images=dataset.train_images[:images], train_labels=dataset.train_labels[:images])


def _smaller(dataset: Dataset, shrink: int) -> Dataset:
    """Every square of `shrink` by `shrink` pixels becomes one."""

    def means(images: np.ndarray) -> np.ndarray:
        n, height, width, channels = images.shape
        return images.reshape(n, height // shrink, shrink, width // shrink, shrink, channels).mean((2, 4))

    return replace(dataset, train_images=means(dataset.train_images), test_images=means(dataset.test_images))
