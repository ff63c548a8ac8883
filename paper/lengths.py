"""How many steps the figures take here and in the paper, whose data sets are larger and its epochs longer."""

from typing import Any, NamedTuple


class Length(NamedTuple):
    """A run of the paper: training examples, minibatch, epochs."""

    examples: int
    batch_size: int
    epochs: int

    @property
    def steps(self) -> int:
        """Whole minibatches of all epochs."""
        return steps(self.examples, self.batch_size, self.epochs)


MNIST, IMDB, CIFAR10 = 60_000, 25_000, 50_000
PAPER = {
    "figure1": Length(MNIST, 128, 45),
    "figure1, words": Length(IMDB, 128, 160),
    "figure2": Length(MNIST, 128, 200),
    "figure3": Length(CIFAR10, 128, 45),
    # The minibatch is that of the autoencoder's own paper: this one does not say.
    "figure4": Length(MNIST, 100, 100),
}
"""The paper's longest runs."""


def steps(examples: int, batch_size: int, epochs: int) -> int:
    """Whole minibatches of so many epochs."""
    return examples // batch_size * epochs


def epochs_and_steps(figure: str, per_epoch: int, epochs: int) -> str:
    """Epochs and their steps, here and in the paper, in words.

    >>> epochs_and_steps("figure3", 11, 45)
    '45 epochs (495 steps, 17,550 in the paper)'
    """
    paper = PAPER[figure]._replace(epochs=epochs)
    return f"{epochs} epochs ({per_epoch * epochs:,} steps, {paper.steps:,} in the paper)"


def rows(results: dict[str, dict[str, Any]]) -> list[tuple[str, str, int, int]]:
    """The figure, its run, and the steps here and in the paper, from the settings in the runs' JSON."""
    found: list[tuple[str, str, int, int]] = []
    settings = {name: content["settings"] for name, content in results.items()}
    for name in ("figure1", "figure2"):
        for i, panel in enumerate(settings.get(name, {}).get("panels", ())):
            key = "figure1, words" if name == "figure1" and i else name
            here = steps(panel["training_examples"], panel["batch_size"], panel["epochs"])
            what = f"{'words' if key != name else 'images'}, {panel['epochs']} epochs here, {PAPER[key].epochs} there"
            found.append((name, what, here, PAPER[key].steps))
    for name in ("figure3", "figure4"):
        about = settings.get(name, {})
        for epochs in about.get("checkpoints") or [about[key] for key in ("early", "epochs") if key in about]:
            here = steps(about["images"], about["batch_size"], epochs)
            found.append((name, f"images, {epochs} epochs", here, PAPER[name]._replace(epochs=epochs).steps))
    return list(dict.fromkeys(found))


def meaning(results: dict[str, dict[str, Any]]) -> str:
    """What the rows mean for the claims, in words."""
    times = [paper / here for _, _, here, paper in rows(results)]
    text = (
        f"A step is a minibatch. The paper's runs have {min(times):.0f} to {max(times):.0f} times as many, and their "
        "epochs are not ours: after as many epochs a run here is much nearer to its start."
    )
    about = results.get("figure4", {}).get("settings", {})
    if "checkpoints" in about:
        here, b2 = steps(about["images"], about["batch_size"], max(about["checkpoints"])), max(about["b2"])
        window = 1 / (1 - b2)
        if window > here:
            text += (
                f" In figure 4 a run with β₂ = {b2:g} never leaves its transient of 1/(1−β₂) = {window:,.0f} steps, of "
                f"which it takes {here:,}: its end here is not the end in the paper."
            )
    return text
