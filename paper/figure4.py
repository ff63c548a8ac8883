"""The Adam paper's figure 4: bias correction, on a variational autoencoder, over decay rates and step sizes.

On MNIST where `data_dir` has it, with the paper's network; else on scikit-learn's 8x8 digits, with a narrower one, step
sizes half a decade apart, and minibatches of 20: bias is a matter of steps, and a hundred epochs of so few images then
are as many as the paper's first ten. Without bias correction and with b1 = 0 Adam is RMSProp.
"""

from dataclasses import asdict, fields
from itertools import product
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adamx.diagnostics import drawing
from adamx.diagnostics.drawing import COLOURS
from adamx.examples.report import six_digits, versions, writable, write_json

from .claims import Claim
from .figure4_claims import Outcome, bias_claims
from .images import load
from .optimizers import half_decades
from .options import Options
from .progress import LiveEpochs
from .runs import Runs
from .vae_grid import Losses, Settings, train

COMMAND = "python -m paper figure4"
PAPER = Settings(whole=1, together=False)
DIGITS = Settings(hidden=200, latent=20, rates=half_decades(1e-5, 1e-1), batch_size=20, seeds=(0, 1, 2))
QUICK = Settings(hidden=64, latent=8, checkpoints=(10, 40), batch_size=20)
QUICK_IMAGES = 1500


def figure4(options: Options, console: Console) -> None:
    """Train the grid with and without bias correction; write `figure4.png` and `figure4.json`, and print a table.

    Args:
        options: how to run; quick runs have a smaller network, fewer epochs and at most 1,500 images.
        console: where progress and the table go.

    Raises:
        FileNotFoundError: some of MNIST's files are there, but not all.
        ValueError: one of them is damaged, or `output` cannot be written.

    Reference: Kingma & Ba, arXiv:1412.6980, section 6.4.
    """
    quick, output = options.quick, options.output
    writable(output, ["figure4.png", "figure4.json"])
    dataset = load(options)
    images = dataset.train_images.reshape(len(dataset.train_labels), -1)[: QUICK_IMAGES if quick else None]
    settings = QUICK if quick else PAPER if dataset.name == "mnist" else DIGITS
    outcome = search(images, settings, dataset.name, options.runs, console)
    about = {"data": dataset.name, "images": len(images), "pixels": images.shape[1], "quick": quick} | asdict(settings)
    per_epoch = len(images) // settings.batch_size
    network = f"{settings.hidden}-{settings.latent}-{settings.hidden}"
    title = f"Figure 4: VAE {network} on {dataset.name}, {per_epoch} steps an epoch"
    picture, numbers = output / "figure4.png", output / "figure4.json"
    drawing.save(draw(outcome, title), picture)
    content = {
        "settings": about,
        "versions": versions(),
        "seconds": round(options.runs.seconds("figure4"), 1),
        "untrained_loss_by_seed": [six_digits(loss) for loss in outcome.untrained],
        "runs": _runs(outcome),
    }
    claims = judged(content)
    write_json(numbers, {**content, "claims": [claim._asdict() for claim in claims]})
    console.print(table(outcome, title))
    for claim in claims:
        console.print(f"{claim.source} {claim.claim}: [bold]{claim.verdict}[/]. {escape(claim.told)}", highlight=False)
    console.print(f"Wrote {picture} and {numbers}", highlight=False, soft_wrap=True)


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `figure4.json` says about the paper's claims."""
    about = content["settings"]
    found = outcome_of(content)
    return bias_claims(found, about["images"] // about["batch_size"], f"`{COMMAND}`")


def outcome_of(content: dict[str, Any]) -> Outcome:
    """The losses, from the content of `figure4.json`."""
    about = content["settings"]
    given = {field.name: about[field.name] for field in fields(Settings) if field.name in about}
    tuples: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in given.items()}
    settings = Settings(**tuples)
    shape = (2, len(settings.seeds), len(settings.checkpoints), *settings.shape)
    losses = np.ma.masked_all(shape)
    for run in content["runs"]:
        axes = ((settings.b1, "b1"), (settings.b2, "b2"), (settings.rates, "step_size"))
        point = [axis.index(run[name]) for axis, name in axes]
        for k, epochs in enumerate(settings.checkpoints):
            for i, loss in enumerate(run["loss_by_epochs_and_seed"][str(epochs)]):
                losses[(int(not run["bias_correction"]), i, k, *point)] = np.nan if loss is None else loss
    untrained = np.array(content["untrained_loss_by_seed"])
    real = about["data"] == "mnist" and not about["quick"]
    return Outcome(settings, untrained, losses[0], losses[1], real)


def search(images: np.ndarray, settings: Settings, data: str, runs: Runs, console: Console) -> Outcome:
    """The losses of the grid with and without correction, for every seed.

    Args:
        images: float32 `(n, pixels)` in [0, 1].
        settings: the grid and what its runs share.
        data: the images' name.
        runs: where to keep the runs.
        console: where progress goes: a bar in a terminal, a line per run or bundle of runs anywhere else.
    """
    count, key = int(np.prod(settings.shape)), {"figure": "figure4", "data": data}
    whole = len(settings.seeds) if settings.whole is None else settings.whole
    first, last = settings.checkpoints[0], settings.checkpoints[-1]
    further = len(settings.seeds) - whole
    each = count * (whole * last + further * first) + further * count // len(settings.rates) * (last - first)
    found: dict[bool, list[Losses]] = {True: [], False: []}
    with LiveEpochs(console, 2 * (each // count if settings.together else each)) as progress:
        # The first seeds of both before later ones: those say most.
        for i, (seed, corrected) in enumerate(product(settings.seeds, (True, False))):
            onward = None
            if i // 2 >= whole:
                ranked = np.ma.filled(found[corrected][0].trained[-1], np.inf)
                ranked = np.where(np.isfinite(ranked), ranked, np.inf)
                onward = np.arange(len(settings.rates)) == ranked.argmin(axis=-1)[..., None]
            what = f"{count} runs {'with' if corrected else 'without'} bias correction, seed {seed}"
            losses = train(images, settings, corrected, seed, progress.told(what), runs, key, onward)
            found[corrected].append(losses)
            if not console.is_terminal:
                best = np.nanmin(losses.trained[-1].compressed())
                console.print(f"{what}: lowest loss {best:.2f} nats", highlight=False)
    with_it, without = (np.ma.stack([losses.trained for losses in found[x]]) for x in (True, False))
    untrained = np.array([losses.untrained for losses in found[True]])
    return Outcome(settings, untrained, with_it, without)


def table(outcome: Outcome, title: str) -> Table:
    """A row for each pair of decay rates: the loss at the best step size, which stands in brackets, mean of seeds."""
    settings = outcome.settings
    seeds = len(settings.seeds)
    result = Table(title=title, caption=f"nats per training image, best step size; mean of {seeds} seeds")
    result.add_column("β₁")
    result.add_column("β₂")
    for epochs in settings.checkpoints:
        result.add_column(f"corrected,\n{epochs} epochs", justify="right")
        result.add_column(f"uncorrected,\n{epochs} epochs", justify="right")
    for i, b1 in enumerate(settings.b1):
        for j, b2 in enumerate(settings.b2):
            cells = []
            for k in range(len(settings.checkpoints)):
                for losses in (outcome.corrected, outcome.uncorrected):
                    mean = np.ma.filled(losses[:, k, i, j].mean(axis=0), np.inf)
                    mean = np.where(np.isfinite(mean), mean, np.inf)
                    best = int(mean.argmin())
                    cells.append(
                        f"{mean[best]:.2f} ({settings.rates[best]:.0e})" if isfinite(mean[best]) else "diverged"
                    )
            result.add_row(f"{b1:g}", f"{b2:g}", *cells)
    return result


def draw(outcome: Outcome, title: str) -> Figure:
    """Loss against step size: a panel for each pair of decay rates, a line for each correction and checkpoint."""
    settings = outcome.settings
    rows, columns, _ = settings.shape
    figure = drawing.figure(3.3 * columns, 3.0 * rows + 0.8)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    top = float(outcome.untrained.mean()) * 1.02
    for i, b1 in enumerate(settings.b1):
        for j, b2 in enumerate(settings.b2):
            axes = panels[i, j]
            axes.set_title(f"β₁ = {b1:g}, β₂ = {b2:g}", fontsize=10, pad=9)
            for losses, colour, name in (
                (outcome.corrected, COLOURS[0], "corrected"),
                (outcome.uncorrected, COLOURS[1], "uncorrected"),
            ):
                for k, epochs in enumerate(settings.checkpoints):
                    style = "-" if k == len(settings.checkpoints) - 1 else (0, (4, 1.5))
                    label = f"{name}, {epochs} epochs"
                    _line(axes, settings.rates, losses[:, k, i, j], top, color=colour, linestyle=style, label=label)
            axes.set_xscale("log")
            drawing.style(axes)
    finite = np.ma.compressed(outcome.corrected)
    finite = finite[np.isfinite(finite)]
    panels[0, 0].set_ylim(finite.min() - 0.03 * (top - finite.min()), top)
    for axes in panels[-1]:
        axes.set_xlabel("step size α")
    for axes in panels[:, 0]:
        axes.set_ylabel("training loss (nats per image)")
    legend = f"mean and range of {len(settings.seeds)} seeds; ▲ worse than untrained, or diverged"
    figure.suptitle(f"{title}; {legend}", x=0.01, ha="left", fontsize=12)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False, handlelength=3)
    return figure


def _line(axes: Axes, rates: tuple[float, ...], losses: np.ndarray, top: float, **style: object) -> None:
    """The mean over seeds in a band from least to largest; what is above `top`, or not finite, lies there."""
    shown = np.ma.array(np.where(np.ma.getdata(losses) < top, losses, top), mask=np.ma.getmaskarray(losses))
    mean = shown.mean(axis=0)
    (line,) = axes.plot(rates, mean, linewidth=1.8, marker="o", markersize=3, **style)  # pyright: ignore[reportArgumentType]
    axes.fill_between(rates, shown.min(axis=0), shown.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    above = [rate for rate, value in zip(rates, mean, strict=True) if value >= top]
    if above:  # unclipped, no point at all would have no place in the layout
        axes.plot(above, [top] * len(above), "^", color=line.get_color(), markersize=8, clip_on=False)


def _runs(outcome: Outcome) -> list[dict[str, object]]:
    settings = outcome.settings
    runs = []
    for corrected, losses in ((True, outcome.corrected), (False, outcome.uncorrected)):
        for i, j, k in np.ndindex(settings.shape):
            point = {"b1": settings.b1[i], "b2": settings.b2[j], "step_size": settings.rates[k]}
            by_epochs = {
                str(epochs): [six_digits(loss) for loss in np.ma.compressed(losses[:, c, i, j, k])]
                for c, epochs in enumerate(settings.checkpoints)
            }
            runs.append(point | {"bias_correction": corrected, "loss_by_epochs_and_seed": by_epochs})
    return runs
