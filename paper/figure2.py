"""Figure 2 of arXiv:1412.6980: a multi-layer perceptron with two hidden layers, with dropout and without.

With dropout the paper has Adam ahead of AdaGrad, RMSProp, SGD with Nesterov momentum and AdaDelta. Without, it compares
Adam with the sum-of-functions optimizer, for which see `sfo.py`: here the same five optimizers run.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax import nnx
from rich.console import Console

from adamx.examples.data import Dataset
from adamx.examples.models import MLP
from adamx.examples.protocol import Contender, Settings

from .claims import Claim, shown
from .comparison import Comparison
from .images import examples, load
from .narrow import Stage
from .optimizers import OPTIMIZERS, SETTINGS, half_decades
from .options import Options
from .panels import Panel, comparisons, run_panels
from .sweep import Problem

COMMAND = "python -m paper figure2"
BATCH_SIZE = 128
SEARCHED = "AdaDelta, α searched"
GRIDS = {
    "Adam": half_decades(1e-4, 0.1),
    "AdaGrad": half_decades(1e-3, 0.3),
    "RMSProp": half_decades(3e-5, 1e-2),
    "SGD + Nesterov": half_decades(1e-2, 3.0),
    # Its paper has no step size, which is one of 1.
    "AdaDelta": (1.0,),
    SEARCHED: (0.3, *half_decades(3.0, 100.0)),
}
MNIST_GRIDS = {
    "Adam": half_decades(3e-5, 1e-2),
    "AdaGrad": half_decades(1e-3, 0.3),
    "RMSProp": half_decades(1e-5, 3e-3),
    "SGD + Nesterov": half_decades(3e-3, 1.0),
    "AdaDelta": (1.0,),
    SEARCHED: (0.1, 0.3, 3.0, 10.0),
}
"""Smaller, for 85 times as many steps."""
MAKERS = {**OPTIMIZERS, SEARCHED: OPTIMIZERS["AdaDelta"]}


class Length(NamedTuple):
    """How wide the hidden layers are, for how long, from how many seeds; and what saves time.

    Attributes:
        hidden: units of each hidden layer.
        epochs: of the runs that count.
        seeds: with dropout; without, one.
        every: after how many epochs the cost is taken, the first ten apart.
        stages: of the search for a step size with dropout; none if a whole grid trains side by side.
        plain_stages: of that without.
    """

    hidden: tuple[int, ...]
    epochs: int
    seeds: int
    every: int = 1
    stages: tuple[Stage, ...] = ()
    plain_stages: tuple[Stage, ...] = ()


PAPER = Length((1000, 1000), 200, 2, 5, (Stage(3, 4), Stage(20, 2)), (Stage(3, 3), Stage(20, 1)))
FULL, QUICK = Length((256, 256), 100, 3), Length((128, 128), 15, 1)


def figure2(options: Options, console: Console) -> None:
    """Run figure 2; write `figure2.png` and `figure2.json`.

    On MNIST the network and the 200 epochs are the paper's, hours of work; on the digits, 40 times fewer
    images, the hidden layers are a quarter as wide.

    Args:
        options: how to run; quick runs take fewer epochs, one seed and narrower layers.
        console: where progress and tables go.

    Raises:
        FileNotFoundError: some of MNIST's files are there, but not all.
        ValueError: one of them is damaged, or `output` cannot be written.
    """
    images = load(options)
    length = QUICK if options.quick else PAPER if images.name == "mnist" else FULL
    panels = [
        _panel(images, length, 0.5, 0.0, length.seeds, length.stages),
        # The paper's claim on this one is about an optimizer that `sfo.py` has.
        _panel(images, length, 0.0, 1e-4, min(length.seeds, 1), length.plain_stages),
    ]
    layers = "-".join(map(str, (*length.hidden, images.classes)))
    title = f"Multi-layer perceptron {layers} on {images.name}"
    run_panels("figure2", title, panels, judged, {"optimizers": SETTINGS}, options, console)


def _panel(images: Dataset, length: Length, dropout: float, l2: float, seeds: int, stages: tuple[Stage, ...]) -> Panel:
    hidden = length.hidden
    grids = MNIST_GRIDS if images.name == "mnist" else GRIDS
    contenders = tuple(Contender(name, MAKERS[name], grid) for name, grid in grids.items())

    def model(rngs: nnx.Rngs) -> MLP:
        return MLP(images.image, images.classes, hidden, dropout, rngs=rngs)

    about = {"data": images.name, "training_examples": len(images.train_labels), "hidden": hidden, "dropout": dropout}
    title = f"{dropout:.0%} dropout" if dropout else f"deterministic, L2 {l2:g}"
    problem = Problem(model, *examples(images), l2, length.every)
    return Panel(title, problem, contenders, Settings(length.epochs, BATCH_SIZE), seeds, about, stages, length is PAPER)


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `figure2.json` says about the paper's claims."""
    return judge(comparisons(content))


def judge(panels: Sequence[Comparison]) -> list[Claim]:
    """What the panel with dropout says about section 6.2, by the training cost after the last epoch."""
    dropout = panels[0]
    adam, peers = dropout["Adam"], [line for line in dropout.lines if line.name != "Adam"]
    ahead = [peer.name for peer in peers if adam.ahead_of(peer)]
    not_ahead = [peer.name for peer in peers if peer.name not in ahead]
    verdict = shown(not not_ahead, dropout.real)
    if not_ahead == [SEARCHED]:
        verdict = "holds with a correction"
    searched = [f" AdaDelta's searched step size is {peer.search.best.learning_rate:g} in place of its paper's 1."
                for peer in peers if peer.name == SEARCHED]  # fmt: skip
    return [
        Claim(
            "§6.2",
            "With dropout Adam converges faster than AdaGrad, RMSProp, SGD with Nesterov momentum and AdaDelta",
            f"`{COMMAND}`",
            verdict,
            dropout.ends(),
            f"From every seed Adam ends ahead of {', '.join(ahead) or 'none'}"
            + (f", not of {', '.join(not_ahead)}" if not_ahead else "")
            + "".join([".", *searched]),
        ),
    ]
