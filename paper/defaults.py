"""Whether step sizes need a search, on small models trained for as many steps as the paper's figure 1 on MNIST.

Softmax regression and a perceptron with one hidden layer, a constant step size, Adam and SGD with Nesterov momentum.
"""

from typing import Any

from flax import nnx
from rich.console import Console

from adamx.examples.data import Dataset
from adamx.examples.models import MLP
from adamx.examples.protocol import Contender, Settings

from . import across
from .claims import Claim
from .images import examples, load
from .optimizers import OPTIMIZERS, SETTINGS, half_decades
from .options import Options
from .panels import Panel, run_panels
from .sweep import Problem

BATCH_SIZE, L2, EPOCHS, QUICK = 128, 1e-4, 45, 5
GRIDS = {"Adam": half_decades(3e-5, 0.3), "SGD + Nesterov": half_decades(3e-4, 3.0)}
HIDDEN = {"softmax regression": (), "a hidden layer of 32": (32,)}


def defaults(options: Options, console: Console) -> None:
    """Train with every step size; write `defaults.png` and `defaults.json`.

    Args:
        options: how to run; quick runs take fewer epochs.
        console: where progress and tables go.

    Raises:
        FileNotFoundError: some of MNIST's files are there, but not all.
        ValueError: one of them is damaged, or `output` cannot be written.
    """
    images = load(options)
    panels = [_panel(images, title, QUICK if options.quick else EPOCHS) for title in HIDDEN]
    title = f"Step sizes on {images.name}, constant α"
    run_panels("defaults", title, panels, judged, {"optimizers": SETTINGS}, options, console)


def _panel(images: Dataset, title: str, epochs: int) -> Panel:
    def model(rngs: nnx.Rngs) -> MLP:
        return MLP(images.image, images.classes, HIDDEN[title], rngs=rngs)

    about = {"data": images.name, "training_examples": len(images.train_labels), "hidden": HIDDEN[title]}
    contenders = tuple(Contender(name, OPTIMIZERS[name], grid) for name, grid in GRIDS.items())
    problem = Problem(model, *examples(images), L2, every=5)
    real = images.name == "mnist" and epochs == EPOCHS
    return Panel(title, problem, contenders, Settings(epochs, BATCH_SIZE), 1, about, real=real)


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `defaults.json` says about the paper's claims."""
    return across.claims({"defaults": content})
