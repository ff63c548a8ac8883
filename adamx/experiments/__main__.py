"""The command line of the experiments: `python -m adamx.experiments COMMAND`."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import demo as demos
from .contenders import CONTENDERS, contenders
from .data import DATASETS, load
from .report import writable
from .training import Settings, steps_per_epoch

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def main() -> None:
    """Run the Adam paper's experiments, small enough for a laptop."""


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


EXPERIMENTS = {
    "figure1": "Figure 1: logistic regression on images, and on sparse words with dropout.",
    "figure2": "Figure 2: a multi-layer perceptron, with dropout and without.",
    "figure3": "Figure 3: a convolutional network, in its first epochs and its last.",
    "figure4": "Figure 4: bias correction, on a variational autoencoder.",
    "theory": "What the paper says of steps, bounds and convergence; writes paper.md.",
}
"""The paper's experiments, each a module whose function of the same name runs it."""

DataDir = Annotated[Path, typer.Option(help="Directory that may hold MNIST, CIFAR-10 and IMDB in their own files.")]
Quick = Annotated[bool, typer.Option("--quick", help="Smaller and shorter: seconds rather than minutes.")]
Output = Annotated[Path, typer.Option(help="Directory for the picture and the JSON file.", file_okay=False)]


def _command(name: str, summary: str) -> Callable[..., None]:
    def command(data_dir: DataDir = Path("data"), quick: Quick = False, output: Output = Path(".")) -> None:
        _run([name], data_dir, quick, output)

    command.__doc__ = f"""{summary}

    Searches the step sizes, prints a table and what the result says of the paper's claims, and writes {name}.png and
    {name}.json. Data that is not in the data directory is replaced by what is at hand: scikit-learn's digits, the
    sources of Python's standard library.
    """
    return command


for _name, _summary in EXPERIMENTS.items():
    app.command(_name)(_command(_name, _summary))


@app.command("all")
def every(data_dir: DataDir = Path("data"), quick: Quick = False, output: Output = Path(".")) -> None:
    """All figures, then the theory, which gathers their claims in paper.md; prints the seconds that each took."""
    _run(list(EXPERIMENTS), data_dir, quick, output)


def _run(names: list[str], data_dir: Path, quick: bool, output: Path) -> None:
    console = Console()
    seconds: dict[str, float] = {}
    try:
        writable(output, [f"{name}.{kind}" for name in names for kind in ("png", "json")])
        for name in names:
            start = time.perf_counter()
            # Imported when asked for, so that --help need not wait for them all.
            getattr(import_module(f".{name}", __package__), name)(data_dir, quick, output, console)
            seconds[name] = time.perf_counter() - start
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    if len(names) > 1:
        console.print(", ".join(f"{name} {took:.0f} s" for name, took in seconds.items()), highlight=False)


def _widths(text: str) -> tuple[int, ...]:
    widths = [width.strip() for width in text.split(",")]
    if not all(width.isdecimal() and int(width) > 0 for width in widths):
        raise ValueError(f"hidden widths {text!r} are not positive integers separated by commas, such as 128,128")
    return tuple(map(int, widths))


if __name__ == "__main__":
    app(prog_name="python -m adamx.experiments")
