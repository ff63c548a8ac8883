"""What every command of `python -m paper` is asked for."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from .runs import Runs


class Images(StrEnum):
    """Which images."""

    auto = "auto"
    mnist = "mnist"
    digits = "digits"


@dataclass(frozen=True)
class Options:
    """How to run.

    Attributes:
        data_dir: directory that may hold MNIST, CIFAR-10 and IMDB in their own files.
        data: the images: `auto` takes MNIST where its files are, else the digits; `mnist` insists
            on it, and asks OpenML where its files are not; `digits` takes those.
        quick: whether smaller and shorter.
        output: directory of the pictures and JSON files.
        runs: where runs are kept, so that a command that was killed goes on.
    """

    data_dir: Path = Path("data")
    data: Images = Images.auto
    quick: bool = False
    output: Path = Path(".")
    runs: Runs = field(default_factory=Runs)
