"""What the runs of figure 1 say about the paper's claims on logistic regression.

The paper does not say which AdaGrad it ran: with the step size α/√t of its other runs, or with a constant one, as its
sum of squares decays the steps as 1/√t already. Both were run, and a verdict says under which reading it is so.
"""

from collections.abc import Sequence

from .claims import Claim, Verdict, least, shown
from .comparison import Comparison

SOURCE = "§6.1"
SGD = "SGD + Nesterov"
TWICE, ONCE = "AdaGrad", "AdaGrad, constant α"
READINGS = {TWICE: "α/√t", ONCE: "constant α"}
"""AdaGrad's step sizes by the names of the runs."""


def judge(comparisons: Sequence[Comparison], command: str) -> list[Claim]:
    """What images; words under a weak penalty, under a strong one, and without dropout say about section 6.1."""
    images, weak, strong, undropped = comparisons
    behind = {name for name in READINGS if _behind_both(images, name)}
    ahead = {name for name in READINGS if _far_ahead(weak, name)}
    single = "" if behind & ahead else " No reading shows both this and the paper's order on "

    def claim(text: str, verdict: Verdict, number: str, sentence: str) -> Claim:
        return Claim(SOURCE, text, f"`{command}`", verdict, number, sentence)

    forth, back = images.as_fast("Adam", SGD, TWICE), images.as_fast(SGD, "Adam", TWICE)
    alike, epochs = forth if least(forth[0], back[0]) == forth[0] else back
    adagrad = min(READINGS, key=lambda name: weak[name].final)
    fast, took = weak.as_fast("Adam", adagrad, SGD)
    fast_too, took_too = strong.as_fast("Adam", ONCE, SGD)
    return [
        claim(
            "On images Adam converges like SGD with Nesterov momentum", alike, images.ends("Adam", SGD), f"{epochs}."
        ),
        claim(
            "On images Adam and SGD with Nesterov momentum converge faster than AdaGrad",
            _under(behind, images),
            images.ends("Adam", SGD, TWICE, ONCE),
            f"AdaGrad ends behind both from every seed {_told(behind)}.{single and f'{single}words.'}",
        ),
        claim(
            "On sparse words with dropout AdaGrad is far ahead of SGD with Nesterov momentum",
            least(_under(ahead, weak), "holds" if _far_ahead(strong, ONCE) else "holds with a correction"),
            _reached(weak),
            f"AdaGrad is far ahead, at SGD's end in half of the epochs, {_told(ahead)}; with constant α under a "
            f"penalty of {strong_penalty(strong)} it is there {strong.reached(ONCE, SGD)}."
            f"{single and f'{single}images.'}",
        ),
        claim(
            "On sparse words with dropout Adam converges as fast as AdaGrad",
            least(fast, fast_too),
            weak.ends("Adam", adagrad, SGD),
            f"{took}. Under a penalty of {strong_penalty(strong)}: {took_too}.",
        ),
        claim(
            "On sparse words without dropout, too, AdaGrad is far ahead of SGD with Nesterov momentum",
            _under({name for name in READINGS if _far_ahead(undropped, name)}, undropped),
            _reached(undropped),
            f"It is so {_told({name for name in READINGS if _far_ahead(undropped, name)})}.",
        ),
    ]


def strong_penalty(strong: Comparison) -> str:
    """The strength of its penalty, which its title ends with."""
    return strong.title.rpartition(" ")[2]


def _reached(words: Comparison) -> str:
    reached = " and ".join(f"{words.reached(name, SGD)} with {what}" for name, what in READINGS.items())
    return f"AdaGrad is where SGD ends {reached}"


def _behind_both(images: Comparison, name: str) -> bool:
    """Whether Adam and SGD end lower, from every seed."""
    return all(images[other].ahead_of(images[name]) for other in ("Adam", SGD))


def _far_ahead(words: Comparison, name: str) -> bool:
    """Whether SGD's end is reached in half of the epochs, and passed from every seed."""
    epochs = words[name].epochs_to(words[SGD].final)
    return words[name].ahead_of(words[SGD]) and epochs is not None and 2 * epochs <= words.settings.epochs


def _under(order: set[str], on: Comparison) -> Verdict:
    """The verdict on an order that is there under some readings of AdaGrad's step size."""
    return "holds with a correction" if len(order) == 1 else shown(bool(order), on.real)


def _told(order: set[str]) -> str:
    if len(order) == 1:
        (name,) = order
        (other,) = set(READINGS) - order
        return f"if its step size is {READINGS[name]}, and not if it is {READINGS[other]}"
    return "under both readings of its step size" if order else "under no reading of its step size"
