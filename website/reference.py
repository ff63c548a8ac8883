"""Reference pages of every public name: what `dir(adamx)` and its public modules list.

An optimizer's page is made of what its file exports. On which page the names of other files stand, `PAGES` says.
"""

import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType

import griffe

import adamx
from adamx._factory import FACTORIES

from .repository import ROOT

PAGES: Mapping[str, tuple[str, ...]] = {
    "Making an optimizer": ("_optimizer", "_transform", "groups", "mup", "catalogue"),
    "The training loop": ("schedules.live", "states.numbers", "wrappers", "states.regroup", "backward"),
    "Averages and lookahead": ("trajectories",),
    "State and memory": ("_state", "states.bytes", "states.masters", "states.convert", "states.packing", "moments"),
    "What a step does": ("states.plan", "kernels"),
    "Many devices": ("sharding",),
    "Porting": ("presets", "states.foreign", "states.pytorch"),
    "Flax": ("flax",),
    "Schedules": ("schedules",),
    "Diagnostics": ("diagnostics",),
    "Writing a rule": ("_rule", "_context", "_annotations", "estimates", "wrapper", "rules"),
    "Modifiers": ("modifiers",),
    "Theory": ("theory",),
}
"""For each page files or folders of `adamx`, or names in them; a name stands where the longest that it begins with is."""


def public() -> dict[str, str]:
    """The path of every public name, and of what it names; the first where something has two names."""
    package = griffe.load("adamx", search_paths=[ROOT])
    found: dict[str, str] = {}
    for name in names(adamx):
        item = package[name]
        home = item.canonical_path.removeprefix("adamx.")
        found.setdefault(home, f"adamx.{name}")
    return {name: home for home, name in found.items()}


def names(module: ModuleType, prefix: str = "") -> Iterator[str]:
    """What a module lists; what its modules list comes last."""
    listed = getattr(module, "__all__", None) if prefix else dir(module)
    listed = [name for name in vars(module) if name[0] != "_"] if listed is None else listed
    items = {name: getattr(module, name) for name in listed}
    yield from (prefix + name for name, item in items.items() if not inspect.ismodule(item))
    if not prefix:
        for name, item in items.items():
            if inspect.ismodule(item):
                yield from names(item, f"{name}.")


def pages() -> dict[str, str]:
    """The path of every reference page, `reference/….md`, and its text."""
    found = public()
    files = {factory.__module__.removeprefix("adamx.") for factory in FACTORIES.values()}
    made = {file: [name for name, home in found.items() if home.rpartition(".")[0] == file] for file in files}
    texts = {}
    for factory in FACTORIES.values():
        file = factory.__module__.removeprefix("adamx.")
        path = f"reference/optimizers/{file.rpartition('.')[2]}.md"
        if path not in texts:
            texts[path] = optimizer_page(made[file])
    rest = {name: home for name, home in found.items() if home.rpartition(".")[0] not in files}
    by_title: dict[str, list[str]] = {title: [] for title in PAGES}
    for name, home in rest.items():
        by_title[title_of(name, home)].append(name)
    for title, listed in by_title.items():
        path = f"reference/{title.lower().replace(' ', '_')}.md"
        modules = [f"adamx.{part}" for part in PAGES[title] if inspect.ismodule(getattr(adamx, part, None))]
        entries = [f"::: {name}\n    options: {{members: false}}" for name in modules] + [f"::: {name}" for name in listed]
        texts[path] = "\n\n".join([f"# {title}", *entries]) + "\n"
    return texts


def title_of(name: str, home: str) -> str:
    """The page of a name."""
    fits = [(len(part), title) for title, parts in PAGES.items() for part in parts if f"{home}.".startswith(f"{part}.")]
    if not fits:
        raise ValueError(f"no page has {name}, which is adamx.{home}: name its file in `PAGES` of {__name__}")
    return max(fits)[1]


def optimizer_page(listed: list[str]) -> str:
    """The factories of a file, its rule, and what is left."""
    factories = [name for name in listed if name.removeprefix("adamx.") in FACTORIES]
    headlines = [inspect.getdoc(FACTORIES[name.removeprefix("adamx.")]) or "" for name in factories]
    title = headlines[0].partition(" (")[0]
    rest = sorted((name for name in listed if name not in factories), key=lambda name: not name.rpartition(".")[2][0].isupper())
    return "\n\n".join([f"# {title}", *(f"::: {name}" for name in [*factories, *rest])]) + "\n"
