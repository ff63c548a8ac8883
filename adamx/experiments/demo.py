"""The demo: Adam, AdaMax and AdamW from adamx beside four optimizers from Optax, on one multi-layer perceptron.

All start from the same weights and see the same minibatches; each is shown at the best step size of its grid. A
table, a figure and a JSON file say what happened, whoever won.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from flax import nnx
from rich.console import Console

from adamx.experiments import figures, report
from adamx.experiments.data import Dataset
from adamx.experiments.models import MLP
from adamx.experiments.progress import Live
from adamx.experiments.training import Contender, Search, Settings, grid_search


def demo(
    contenders: Sequence[Contender],
    dataset: Dataset,
    hidden: Sequence[int],
    settings: Settings,
    output: Path,
    console: Console,
) -> list[Search]:
    """Compare optimizers on an MLP; write `demo.png` and `demo.json` to `output`, and a table to `console`.

    Parameters
    ----------
    contenders
        The optimizers.
    dataset
        What to classify.
    hidden
        Width of each hidden layer.
    settings
        Epochs, batch size and seed; the seed also draws the initial weights.
    output
        Directory for the two files; it is made if it is missing.
    console
        Where progress and the table go.
    """
    model = MLP(dataset.image, dataset.classes, hidden, rngs=nnx.Rngs(settings.seed))
    with Live(console, contenders, settings) as on_epoch:
        searches = [grid_search(contender, model, dataset, settings, on_epoch) for contender in contenders]

    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    layers = "-".join(map(str, (*hidden, dataset.classes)))
    epochs = f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}"
    title = f"MLP {layers} on {dataset.name}, {epochs}, batch size {settings.batch_size}"
    about = {"data": dataset.name, "model": "MLP", "hidden": list(hidden), "parameters": parameters}
    output.mkdir(parents=True, exist_ok=True)
    figures.save(figures.loss_curves(searches, title), output / "demo.png")
    (output / "demo.json").write_text(report.as_json(searches, settings, about), encoding="utf-8")
    console.print(report.table(searches, title))
    console.print(f"Wrote {output / 'demo.png'} and {output / 'demo.json'}", highlight=False, soft_wrap=True)
    return searches
