"""The command line: `python -m paper COMMAND`, from the root of the repository."""

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adamx.examples.report import writable

from . import page as pages
from .options import Images, Options
from .runs import Runs

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback()
def main() -> None:
    """Run the Adam paper's experiments, small enough for a laptop, and check its claims."""


EXPERIMENTS = {
    "figure1": "Figure 1: logistic regression on images, and on sparse words with dropout.",
    "figure2": "Figure 2: a multi-layer perceptron, with dropout and without.",
    "figure3": "Figure 3: a convolutional network, in its first epochs and its last.",
    "figure4": "Figure 4: bias correction, on a variational autoencoder.",
    "defaults": "Step sizes: how many do, and whether the default does, on small models.",
    "sfo": "Adam beside the sum-of-functions optimizer, on a multi-layer perceptron.",
    "theory": "What the paper says of steps, bounds and convergence; writes paper.md.",
}
"""The paper's experiments, each a module whose function of the same name runs it."""

DataDir = Annotated[Path, typer.Option(help="Directory that may hold MNIST, CIFAR-10 and IMDB in their own files.")]
Quick = Annotated[bool, typer.Option("--quick", help="Smaller and shorter: seconds rather than minutes.")]
Data = Annotated[Images, typer.Option(help="Images of figures 1, 2 and 4; auto: MNIST where its files are.")]
Kept = Annotated[
    Path | None, typer.Option("--runs", help="Directory that keeps every run, so that a killed command goes on.")
]
Output = Annotated[Path, typer.Option(help="Directory for the picture and the JSON file.", file_okay=False)]
Results = Annotated[Path, typer.Option(help="Directory of the runs' JSON files.", file_okay=False, exists=True)]


def _command(names: list[str], text: str) -> Callable[..., None]:
    def command(
        data_dir: DataDir = Path("data"),
        data: Data = Images.auto,
        quick: Quick = False,
        output: Output = Path("."),
        runs: Kept = None,
    ) -> None:
        _run(names, Options(data_dir, data, quick, output, Runs(runs)))

    command.__doc__ = text
    return command


for _name, _summary in EXPERIMENTS.items():
    _text = f"""{_summary}

    Searches the step sizes, prints a table and what the result says of the paper's claims, and writes {_name}.png and
    {_name}.json. Data that is not in the data directory is replaced by what is at hand: scikit-learn's digits, the
    sources of Python's standard library.
    """
    app.command(_name)(_command([_name], _text))

_text = "All figures, then the theory, which gathers their claims in paper.md; prints the seconds that each took."
app.command("all")(_command([*EXPERIMENTS], _text))


@app.command()
def page(results: Results = Path("docs")) -> None:
    """Draw the figures' verdicts again and write paper.md anew, from the JSON files of earlier runs."""
    pages.judge_again(results)
    print(f"Wrote {pages.write(results)}")


def _run(names: list[str], options: Options) -> None:
    console = Console()
    seconds: dict[str, float] = {}
    try:
        writable(options.output, [f"{name}.{kind}" for name in names for kind in ("png", "json")])
        for name in names:
            start = time.perf_counter()
            # Imported when asked for, so that --help need not wait for them all.
            getattr(import_module(f".{name}", __package__), name)(options, console)
            seconds[name] = time.perf_counter() - start
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    if len(names) > 1:
        console.print(", ".join(f"{name} {took:.0f} s" for name, took in seconds.items()), highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m paper")
