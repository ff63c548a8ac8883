"""Figure 1 of arXiv:1412.6980: logistic regression, on images and on sparse bags of words with half the words dropped.

Convex problems, with the step size α/√t of the paper's regret bound. On images the paper has Adam and SGD with Nesterov
momentum alike and both ahead of AdaGrad; on sparse words AdaGrad far ahead of SGD, and Adam as fast as AdaGrad.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from flax import nnx
from rich.console import Console

from adamx import schedules
from adamx.examples.data import Dataset
from adamx.examples.models import LogisticRegression
from adamx.examples.protocol import Contender, MakeOptimizer, Settings

from . import text
from .bag_of_words import BagOfWords
from .claims import Claim, Verdict, least
from .comparison import Comparison
from .images import examples, load
from .optimizers import OPTIMIZERS, SETTINGS, MakeScheduled, half_decades
from .options import Options
from .panels import Panel, run_panels
from .sweep import Examples, Problem

COMMAND = "python -m paper figure1"
BATCH_SIZE = 128
L2, WEAK = 1e-4, 1e-6
DROPOUT = 0.5


_INVERSE_SQRT = schedules.inverse_sqrt(1.0)


def _decayed(make: MakeScheduled) -> MakeOptimizer:
    return lambda rate: make(lambda count: rate * _INVERSE_SQRT(count))


# AdaGrad's sum of squares decays its steps as 1/√t already: with α/√t they are decayed twice.
ONCE = "AdaGrad, constant α"
VARIANTS = {"AdaGrad": "α/√t, which decays it twice", ONCE: "constant α"}
# Made once: compilation is cached by the function.
MAKERS = {name: _decayed(make) for name, make in OPTIMIZERS.items()} | {ONCE: OPTIMIZERS["AdaGrad"]}
IMAGE_GRIDS = {
    "Adam": half_decades(1e-2, 3.0),
    "SGD + Nesterov": half_decades(1e-1, 30.0),
    "AdaGrad": half_decades(1e-1, 30.0),
    ONCE: half_decades(3e-2, 10.0),
}
WORD_GRIDS = {
    "Adam": half_decades(3e-2, 1.0),
    "SGD + Nesterov": half_decades(1.0, 100.0),
    "AdaGrad": half_decades(1e-1, 10.0),
    "RMSProp": half_decades(1e-2, 1.0),
    ONCE: half_decades(1e-1, 3.0),
}


class Length(NamedTuple):
    """For how long, from how many seeds and on about how many texts, `None` for all."""

    epochs: int
    word_epochs: int
    seeds: int
    texts: int | None


FULL, QUICK = Length(45, 15, 3, None), Length(10, 4, 1, 1500)


def figure1(options: Options, console: Console) -> None:
    """Run figure 1; write `figure1.png` and `figure1.json`.

    The paper does not say how strong its penalty is, and on rare words that decides: they run with two strengths.

    Args:
        options: how to run; without IMDB's `aclImdb` in the data directory the words are those of the sources of
            Python's standard library; quick runs take fewer epochs, one seed and fewer texts.
        console: where progress and tables go.

    Raises:
        FileNotFoundError: MNIST or IMDB is there in part.
        ValueError: one of their files is damaged, or `output` cannot be written.
    """
    images, texts = load(options), text.load(options.data_dir)
    length = QUICK if options.quick else FULL
    three = {name: WORD_GRIDS[name] for name in ("Adam", "SGD + Nesterov", ONCE)}
    panels = [
        _images(images, length),
        _words(texts, WEAK, WORD_GRIDS, length),
        _words(texts, L2, three, length),
    ]
    about = {"optimizers": SETTINGS, "step size": "α/√t", "python": sys.version.split()[0]}
    run_panels("figure1", "Logistic regression, step size α/√t unless said", panels, judge, about, options, console)


def _images(images: Dataset, length: Length) -> Panel:
    def model(rngs: nnx.Rngs) -> LogisticRegression:
        return LogisticRegression(images.image, images.classes, rngs=rngs)

    return Panel(
        f"{images.name}, {len(images.train_labels)} images, L2 {L2:g}",
        Problem(model, *examples(images), L2),
        _contenders(IMAGE_GRIDS),
        Settings(length.epochs, BATCH_SIZE),
        length.seeds,
        {"data": images.name, "training_examples": len(images.train_labels)},
    )


def _words(texts: text.Texts, l2: float, grids: dict[str, tuple[float, ...]], length: Length) -> Panel:
    def model(rngs: nnx.Rngs) -> BagOfWords:
        return BagOfWords(texts.words, len(texts.classes), DROPOUT, rngs=rngs)

    # Evenly from all: IMDB's come class by class.
    step = max(1, len(texts.train_labels) // length.texts) if length.texts else 1
    train = Examples(texts.train_bags[::step], texts.train_labels[::step])
    return Panel(
        f"{texts.name}, {len(train.labels)} texts, {DROPOUT:.0%} dropout, L2 {l2:g}",
        Problem(model, train, Examples(texts.test_bags, texts.test_labels), l2),
        _contenders(grids),
        Settings(length.word_epochs, BATCH_SIZE),
        length.seeds,
        {"data": texts.name, "training_examples": len(train.labels), "words": texts.words,
         "classes": list(texts.classes), "dropout": DROPOUT},
    )  # fmt: skip


def _contenders(grids: dict[str, tuple[float, ...]]) -> tuple[Contender, ...]:
    return tuple(Contender(name, MAKERS[name], grid) for name, grid in grids.items())


def judge(comparisons: Sequence[Comparison]) -> list[Claim]:
    """What images and words say about section 6.1.

    The paper does not say which AdaGrad it ran. An order that one of `VARIANTS` shows and another does not is the
    paper's only if the same one shows the other order, too.
    """
    images, weak, strong = comparisons
    behind = {name for name in VARIANTS if _behind_both(images, name)}
    ahead = {name for name in VARIANTS if _far_ahead(weak, name)}
    return [*_on_images(images, behind, ahead), *_on_words(weak, strong, behind, ahead)]


def _on_images(images: Comparison, behind: set[str], ahead: set[str]) -> list[Claim]:
    sgd = "SGD + Nesterov"
    forth, back = images.as_fast("Adam", sgd, "AdaGrad"), images.as_fast(sgd, "Adam", "AdaGrad")
    alike, epochs = forth if least(forth[0], back[0]) == forth[0] else back
    adagrads = ", ".join(f"{images[name].final:.3g} with {what}" for name, what in VARIANTS.items())
    return [
        _claim(
            "On images Adam converges like SGD with Nesterov momentum.", alike,
            f"{images.standing()}; {epochs}",
        ),
        _claim(
            "On images Adam and SGD with Nesterov momentum converge faster than AdaGrad.",
            _under_one(behind, ahead),
            f"{images.title}: Adam ends at {images['Adam'].final:.3g}, SGD at {images[sgd].final:.3g}, AdaGrad at "
            f"{adagrads}. {_told(behind, ahead, 'that on words')}",
        ),
    ]  # fmt: skip


def _on_words(weak: Comparison, strong: Comparison, behind: set[str], ahead: set[str]) -> list[Claim]:
    """Claims on words with a weak penalty; with a strong one, how far they carry."""
    sgd = "SGD + Nesterov"
    adagrad = min(VARIANTS, key=lambda name: weak[name].final)
    fast, epochs = weak.as_fast("Adam", adagrad, sgd)
    fast_too, epochs_too = strong.as_fast("Adam", ONCE, sgd)
    carries: Verdict = "holds" if _far_ahead(strong, ONCE) else "holds with a correction"
    reached = ", ".join(f"{weak.reached(name, sgd)} with {what}" for name, what in VARIANTS.items())
    return [
        _claim(
            "On sparse words with dropout AdaGrad is far ahead of SGD with Nesterov momentum.",
            least(_under_one(ahead, behind), carries),
            f"{weak.title}: AdaGrad is where SGD ends {reached}; with L2 {L2:g} {strong.reached(ONCE, sgd)} with "
            f"constant α (far is half of the epochs). {_told(ahead, behind, 'that on images')}",
        ),
        _claim(
            "On sparse words with dropout Adam converges as fast as AdaGrad.",
            least(fast, fast_too),
            f"{weak.standing()}; {epochs}; {strong.standing()}; {epochs_too}",
        ),
    ]


def _behind_both(images: Comparison, name: str) -> bool:
    """Whether Adam and SGD end lower, from every seed."""
    return all(images[other].ahead_of(images[name]) for other in ("Adam", "SGD + Nesterov"))


def _far_ahead(words: Comparison, name: str) -> bool:
    """Whether SGD's end is reached in half of the epochs, and passed from every seed."""
    sgd = words["SGD + Nesterov"]
    epochs = words[name].epochs_to(sgd.final)
    return words[name].ahead_of(sgd) and epochs is not None and 2 * epochs <= words.settings.epochs


def _under_one(order: set[str], other: set[str]) -> Verdict:
    """The verdict on an order that some variants of AdaGrad show, where some show the other order."""
    if len(order) == len(VARIANTS):
        return "holds"
    return "holds with a correction" if order & other else "could not be shown here"


def _told(order: set[str], other: set[str], which: str) -> str:
    def named(chosen: set[str]) -> str:
        return " and ".join(f"with {what}" for name, what in VARIANTS.items() if name in chosen) or "with no AdaGrad"

    single = "" if order & other else ": no AdaGrad that was run shows both"
    return f"The paper's order is there {named(order)}, {which} {named(other)}{single}"


def _claim(claim: str, verdict: Verdict, number: str) -> Claim:
    return Claim("§6.1", claim, f"`{COMMAND}`", verdict, number)
