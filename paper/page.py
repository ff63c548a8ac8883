"""`paper.md`: every claim that a run has tested, generated from the runs' JSON.

`python -m paper page` writes it anew.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from adamx.examples.report import write_json

from . import across, lengths
from .claims import UNTESTED, VERDICTS, Claim

FIGURES = ("figure1", "figure2", "figure3", "figure4", "defaults", "sfo")
RUNS = ("theory", *FIGURES)
PEERS = ("AdaGrad", "SGD", "RMSProp", "AdaDelta", "SFO", "other stochastic optimizers")
"""The optimizers that a claim about an order may name beside Adam."""
SECTIONS = {
    0: "Abstract and introduction",
    2: "Section 2: the algorithm, and the length of its steps",
    3: "Section 3: bias correction",
    4: "Section 4: convergence",
    5: "Section 5: related methods",
    6: "Section 6: experiments",
    7: "Section 7: AdaMax, averaging",
    8: "Section 8: conclusion",
    10: "Appendix",
    98: "Introductions to Adam",
    99: "Elsewhere",
}
HEAD = """\
# The paper's claims, run

What Kingma & Ba, *Adam: A Method for Stochastic Optimization* (arXiv:1412.6980), and introductions to it say, and what
came out here. The verdict is drawn by the program from the number beside it; the evidence is the command that prints
the number, and the test that holds it. A verdict marked *not tested* is drawn from no number: the reason stands there.
"""


def place(source: str) -> int:
    """The section that a claim's source is shown under; its number, 0 for the abstract."""
    if source.startswith("introductions"):
        return 98
    if source.startswith("abstract"):
        return 0
    number = re.match(r"§(\d+)", source)
    section = int(number[1]) if number else 99
    return 0 if section == 1 else section if section in SECTIONS else 99


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The results that lie in a folder, by the name of the run."""
    paths = {name: folder / f"{name}.json" for name in RUNS}
    return {name: json.loads(path.read_text("utf-8")) for name, path in paths.items() if path.exists()}


def claims_of(results: dict[str, dict[str, Any]]) -> list[Claim]:
    """The claims of all runs, in the order of `RUNS`, and what the figures say together.

    Raises:
        ValueError: a verdict that is none.
    """
    together = across.claims(results)
    own = [Claim(**claim) for content in results.values() for claim in content["claims"]]
    # What the figures show takes the place of what was not tested, or by short runs only.
    shown = {claim.claim for claim in together}
    tested = {claim.claim for claim in own if claim.evidence != UNTESTED}
    own = [
        claim for claim in own if claim.claim not in shown and (claim.evidence != UNTESTED or claim.claim not in tested)
    ]
    claims = [*own, *together]
    for claim in claims:
        if claim.verdict not in VERDICTS:
            raise ValueError(f"verdict {claim.verdict!r} of {claim.claim!r} should be one of {', '.join(VERDICTS)}")
    return claims


def summary(claims: Sequence[Claim]) -> str:
    """A Markdown table of how many claims have which verdict, for the README."""
    counts = Counter(claim.verdict for claim in claims)
    rows = [(verdict, str(counts[verdict])) for verdict in VERDICTS]
    return _table(("verdict", "claims"), rows, right=(1,))


def page(folder: Path) -> str:
    """The page, from the results in a folder; the same results make the same page."""
    results = read(folder)
    claims = claims_of(results)
    parts = [HEAD, _versions(results), summary(claims), _count(claims), _missing(results), _disagreements(claims)]
    parts += _pictures(folder, results)
    for number, title in SECTIONS.items():
        chosen = sorted((claim for claim in claims if place(claim.source) == number), key=lambda claim: claim.source)
        if chosen:
            parts += [f"## {title}", _steps(results) if number == 6 else "", _claims(chosen)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def judge_again(folder: Path) -> None:
    """Draw the verdicts of the figures in a folder again, from the numbers in their JSON files and without training."""
    for name in FIGURES:
        path = folder / f"{name}.json"
        if path.exists():
            content = json.loads(path.read_text("utf-8"))
            write_json(path, content | {"claims": [claim._asdict() for claim in judged(name, content)]})


def judged(name: str, content: dict[str, Any]) -> list[Claim]:
    """What the numbers of a figure say about the paper's claims.

    Args:
        name: of the figure, as in `FIGURES`.
        content: of its JSON file.
    """
    return import_module(f".{name}", __package__).judged(content)


def write(folder: Path) -> Path:
    """Write the page beside the results that it is made from, and return its path."""
    path = folder / "paper.md"
    path.write_text(page(folder), "utf-8")
    return path


def _versions(results: dict[str, dict[str, Any]]) -> str:
    versions = {name: number for content in results.values() for name, number in content["versions"].items()}
    kinds = {bool(content["settings"].get("quick")) for content in results.values()}
    length = {(True,): " All runs were quick ones.", (False, True): " Some of the runs were quick ones."}
    listed = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    return f"Generated by `python -m paper page` from the runs' JSON: {listed}." + length.get(tuple(sorted(kinds)), "")


def _missing(results: dict[str, dict[str, Any]]) -> str:
    missing = [name for name in RUNS if name not in results]
    if not missing:
        return ""
    return f"Not run yet: {', '.join(f'`python -m paper {name}`' for name in missing)}."


def _disagreements(claims: Iterable[Claim]) -> str:
    """What the paper's experiments show and ours do not, and other claims of an order that did not simply hold."""
    others = [claim for claim in claims if _compares(claim) and claim.verdict != "holds" and claim.evidence != UNTESTED]
    if not others:
        return ""
    lines = [f"- {claim.source}, {claim.claim.rstrip('.')}: *{claim.verdict}*; {claim.told}" for claim in others]
    return "\n".join(["Where our runs do not show what the paper's do, or not its order:", "", *lines])


def _compares(claim: Claim) -> bool:
    """Whether a claim is about an experiment, or about who is ahead."""
    section = place(claim.source)
    return section == 6 or (section == 0 and any(peer in f"{claim.claim} {claim.told}" for peer in PEERS))


def _count(claims: Iterable[Claim]) -> str:
    count = sum(claim.evidence == UNTESTED for claim in claims)
    return f"{count} of those that could not be shown were not tested." if count else ""


def _steps(results: dict[str, dict[str, Any]]) -> str:
    """How long the figures' runs are beside the paper's, and what that means."""
    rows = lengths.rows(results)
    if not rows:
        return ""
    cells = [
        (row.figure, row.data, row.run, str(row.seeds), f"{row.here:,}", f"{row.paper:,}", f"{row.times:.3g}")
        for row in rows
    ]
    heading = ("figure", "data", "run", "seeds", "steps here", "steps in the paper", "times")
    table = _table(heading, cells, right=(3, 4, 5, 6))
    return f"{table}\n\n{lengths.meaning(results)}"


def _pictures(folder: Path, results: dict[str, Any]) -> list[str]:
    return [f"![Results of the run {name}]({name}.png)" for name in results if (folder / f"{name}.png").exists()]


def _claims(claims: Iterable[Claim]) -> str:
    rows = [(c.source, c.claim, _verdict(c), c.number, c.sentence, c.evidence) for c in claims]
    return _table(("where", "claim", "verdict", "number", "in words", "evidence"), rows)


def _verdict(claim: Claim) -> str:
    return f"**{claim.verdict}**" + (" (*not tested*)" if claim.evidence == UNTESTED else "")


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if i in right else "---" for i in range(len(heading))]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (heading, rule, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
