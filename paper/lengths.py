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


class Row(NamedTuple):
    """A run of ours beside the paper's: steps are minibatches, `times` how often the paper's has ours."""

    figure: str
    run: str
    data: str
    seeds: int
    here: int
    paper: int

    @property
    def times(self) -> float:
        """How many times as many steps the paper has."""
        return self.paper / self.here


def rows(results: dict[str, dict[str, Any]]) -> list[Row]:
    """What ran, on what and for how long, from the settings in the runs' JSON."""
    found: list[Row] = []
    settings = {name: content["settings"] for name, content in results.items()}
    for name in ("figure1", "figure2"):
        for panel in settings.get(name, {}).get("panels", ()):
            key = "figure1, words" if "words" in panel else name
            epochs = panel["epochs"]
            here = steps(panel["training_examples"], panel["batch_size"], epochs)
            dropout = f", {panel['dropout']:.0%} dropout" if panel.get("dropout") else ""
            kind = "words" if key != name else "images"
            data = f"{panel['data']}, {panel['training_examples']:,} {kind.replace('words', 'texts')}"
            what = f"{epochs} epochs{dropout}, {PAPER[key].epochs} in the paper"
            found.append(Row(name, what, data, panel["seeds"], here, PAPER[key].steps))
    for name in ("figure3", "figure4"):
        about = settings.get(name, {})
        for epochs in about.get("checkpoints") or [about[key] for key in ("early", "epochs") if key in about]:
            here = steps(about["images"], about["batch_size"], epochs)
            seeds = about["seeds"] if name == "figure3" else len(about["seeds"])
            if about.get("whole") and epochs == about["checkpoints"][-1]:
                seeds = about["whole"]  # the others only at their best step size
            data = f"{about['data']}, {about['images']:,} images"
            found.append(Row(name, f"{epochs} epochs", data, seeds, here, PAPER[name]._replace(epochs=epochs).steps))
    return list(dict.fromkeys(found))


def meaning(results: dict[str, dict[str, Any]]) -> str:
    """What the rows mean for the claims, in words."""
    times = [row.times for row in rows(results)]
    longer = [x for x in times if x > 1.01]
    text = "A step is a minibatch."
    if len(longer) < len(times):
        text += " Where the paper has 1 time as many, the data and the length are its own."
    if longer:
        text += (
            f" {'Elsewhere the' if len(longer) < len(times) else 'The'} paper's runs have {min(longer):.0f} to "
            f"{max(longer):.0f} times as many, on larger data sets whose epochs are longer: after as many epochs a run "
            "here is much nearer to its start."
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
