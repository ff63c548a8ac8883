"""What the runs of Adam and SFO say about the claims of section 6.2."""

from typing import Any

import numpy as np

from .claims import Claim, Verdict, shown

COMMAND = "python -m paper sfo"
SLOWER = (5, 10)
FAILED = 0.5
"""A run that ends above this share of the untrained cost has failed."""
FAR = 2.0


def judged(content: dict[str, Any]) -> list[Claim]:
    """What the content of `sfo.json` says about the paper's claims."""
    return [_time(content), _memory(content), _dropout(content), _order(content)]


def _claim(text: str, verdict: Verdict, number: str, sentence: str) -> Claim:
    return Claim("§6.2", text, f"`{COMMAND}`", verdict, number, sentence)


def _real(content: dict[str, Any]) -> bool:
    return content["settings"]["data"] == "mnist" and not content["settings"]["quick"]


def _network(content: dict[str, Any]) -> str:
    about = content["settings"]
    return f"{about['training_examples']:,} images, hidden layers of {'-'.join(map(str, about['hidden']))}"


def _curve(content: dict[str, Any], name: str, dropped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Costs, infinite where they are not finite, and seconds."""
    found = next(one for one in content["curves"] if one["name"] == name and bool(one["dropout"]) == dropped)
    cost = np.array([np.inf if value is None else value for value in found["cost"]])
    return cost, np.array(found["cpu_seconds"])


def _time(content: dict[str, Any]) -> Claim:
    runs = content["iterations"]
    ratios = [run["sfo_seconds"] / run["adam_seconds"] for run in runs]
    low, high = SLOWER
    within = [low <= ratio <= high for ratio in ratios]
    verdict: Verdict = "holds" if all(within) else shown(False, _real(content))
    if not all(within) and min(ratios) <= high and max(ratios) >= low:
        verdict = "holds with a correction"
    told = ", ".join(f"{ratio:.2g}" for ratio in ratios)
    numbers = ", ".join(str(run["minibatches"]) for run in runs)
    return _claim(
        "An iteration of SFO takes 5 to 10 times as long as one of Adam",
        verdict,
        f"{told} times with {numbers} minibatches",
        f"The processor's time on the same minibatch ({_network(content)}): the more minibatches, the smaller they are "
        "and the larger SFO's subspace.",
    )


def _memory(content: dict[str, Any]) -> Claim:
    runs = content["iterations"]
    each = [(run["sfo_numbers"] - 1) / run["minibatches"] for run in runs]
    return _claim(
        "SFO's memory grows linearly with the number of minibatches",
        "holds" if max(each) <= 1.25 * min(each) else "false",
        ", ".join(f"{run['sfo_numbers']:.3g}" for run in runs) + " numbers for each parameter",
        f"With {', '.join(str(run['minibatches']) for run in runs)} minibatches: {np.mean(each):.2g} for each of them, "
        f"of the basis of its subspace above all; Adam keeps {runs[0]['adam_numbers']:.2g}.",
    )


def _dropout(content: dict[str, Any]) -> Claim:
    adam, sfo = (_curve(content, name, True)[0] for name in ("Adam", "SFO"))
    plain = _curve(content, "SFO", False)[0]
    verdict: Verdict = "holds" if sfo[-1] > FAILED * sfo[0] else shown(False, _real(content))
    if sfo[-1] <= FAILED * sfo[0] and sfo[-1] > FAR * adam[-1]:
        verdict = "holds with a correction"
    return _claim(
        "SFO fails with dropout, as on other stochastic objectives",
        verdict,
        f"after {len(sfo) - 1} passes SFO {sfo[-1]:.3g}, Adam {adam[-1]:.3g} nats",
        f"Untrained it is {sfo[0]:.3g}; without dropout SFO comes to {plain[-1]:.3g}. To hold, SFO would end above "
        f"{FAILED:g} times the untrained cost; with a correction above {FAR:g} times Adam's.",
    )


def _order(content: dict[str, Any]) -> Claim:
    (adam, adams), (sfo, sfos) = (_curve(content, name, False) for name in ("Adam", "SFO"))
    target = sfo.min()
    there = np.flatnonzero(adam <= target)
    first = int(sfo.argmin())
    claim = "Without dropout Adam is faster than SFO, in iterations and in time"
    if not there.size:
        return _claim(
            claim,
            shown(False, _real(content)),
            f"after {len(adam) - 1} passes Adam {adam.min():.3g}, SFO {target:.3g} nats",
            "Adam does not come as low.",
        )
    passes, seconds = int(there[0]), adams[there[0]]
    faster = passes < first, seconds < sfos[first]
    verdict: Verdict = "holds" if all(faster) else "holds with a correction" if any(faster) else "false"
    about = content["settings"]
    return _claim(
        claim,
        verdict if all(faster) or _real(content) else "could not be shown here",
        f"to {target:.3g} nats Adam takes {passes} passes and {seconds:.3g} s, SFO {first} and {sfos[first]:.3g} s",
        f"SFO's lowest cost in {len(sfo) - 1} passes, and the processor's seconds ({_network(content)}); Adam at "
        f"α = .001 in minibatches of {about['batch_size']}, SFO with its {about['minibatches']} minibatches. In the "
        f"end Adam is at {adam[-1]:.3g}.",
    )
