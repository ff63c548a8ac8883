"""The demo's command line: `python -m adamx.examples demo`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import demo as demos
from .contenders import CONTENDERS, contenders
from .data import DATASETS, load
from .protocol import Settings, steps_per_epoch
from .report import writable

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def main() -> None:
    """Train small models with adamx's optimizers."""


@app.command()
def demo(
    data: Annotated[str, typer.Option(help=f"Data set: {', '.join(DATASETS)}.")] = "digits",
    data_dir: Annotated[Path, typer.Option(help="Directory of the files of MNIST or CIFAR-10.")] = Path("data"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images, per run.")] = Settings.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = Settings.batch_size,
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and order of images.")] = Settings.seed,
    optimizers: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Some of {', '.join(CONTENDERS)}; separated by commas, or the option repeated.", show_default="all"
        ),
    ] = None,
    hidden: Annotated[str, typer.Option(help="Widths of the hidden layers, separated by commas.")] = "128,128",
    output: Annotated[Path, typer.Option(help="Directory for demo.png and demo.json.", file_okay=False)] = Path("."),
) -> None:
    """Compare Adam, AdaMax and AdamW with other optimizers on a small network.

    The same multi-layer perceptron is trained from the same initial weights by each optimizer with each step size of
    a grid; the step size with the lowest final training loss counts. Prints a table, and writes the loss curves to
    demo.png and every run to demo.json. The digits come with scikit-learn; MNIST and CIFAR-10 are read from their
    original files.
    """
    try:
        chosen = contenders([name for part in optimizers or CONTENDERS for name in part.split(",")])
        widths = _widths(hidden)
        dataset = load(data, data_dir)
        settings = Settings(epochs, batch_size, seed)
        steps_per_epoch(settings, dataset)
        writable(output, demos.FILES)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    demos.demo(chosen, dataset, widths, settings, output, Console())


def _widths(text: str) -> tuple[int, ...]:
    widths = [width.strip() for width in text.split(",")]
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ValueError(f"hidden widths {text!r} are not positive integers separated by commas, such as 128,128")
    return tuple(map(int, widths))


if __name__ == "__main__":
    app(prog_name="python -m adamx.examples")
