"""The demo: Adam, AdaMax and AdamW from adamx beside four optimizers from Optax, on one multi-layer perceptron.

All start from the same weights and see the same minibatches; each is shown at the best step size of its grid, in a
table, a figure and a JSON file.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from flax import nnx
from rich.console import Console

from ..diagnostics import drawing
from . import figures, report
from .data import Dataset
from .models import MLP
from .progress import Live
from .protocol import Contender, Search, Settings
from .training import grid_search

FILES = ("demo.png", "demo.json")


def demo(
    contenders: Sequence[Contender],
    dataset: Dataset,
    hidden: Sequence[int],
    settings: Settings,
    output: Path,
    console: Console,
) -> list[Search]:
    """Compare optimizers on an MLP; write `demo.png` and `demo.json` to `output`, and a table to `console`.

    Args:
        contenders: the optimizers.
        dataset: what to classify.
        hidden: width of each hidden layer.
        settings: epochs, batch size and seed; the seed also draws the initial weights.
        output: directory for the two files; `report.writable` makes it.
        console: where progress and the table go.

    Returns:
        The runs of each contender, in the order of `contenders`.
    """
    model = MLP(dataset.image, dataset.classes, hidden, rngs=nnx.Rngs(settings.seed))
    with Live(console, contenders, settings) as on_epoch:
        searches = [grid_search(contender, model, dataset, settings, on_epoch) for contender in contenders]

    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    layers = "-".join(map(str, (*hidden, dataset.classes)))
    epochs = f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}"
    title = f"MLP {layers} on {dataset.name}, {epochs}, batch size {settings.batch_size}"
    about = {"data": dataset.name, "model": "MLP", "hidden": list(hidden), "parameters": parameters}
    figure, runs = (output / name for name in FILES)
    drawing.save(figures.loss_curves(searches, title), figure)
    runs.write_text(report.as_json(searches, settings, about), encoding="utf-8")
    console.print(report.table(searches, title))
    console.print(f"Wrote {figure} and {runs}", highlight=False, soft_wrap=True)
    return searches
