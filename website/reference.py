"""Reference pages of every public name: what `adamx/__init__.py` imports, and what its public modules list.

An optimizer has the page of its file. On which page the names of other files stand, `PAGES` says.
"""

import itertools
from collections.abc import Iterable, Mapping

import griffe

from adamx._factory import FACTORIES
from adamx.catalogue import describe

from .repository import ROOT

PAGES: Mapping[str, tuple[str, ...]] = {
    "Making an optimizer": ("_optimizer", "_transform", "groups", "mup", "catalogue"),
    "The training loop": ("schedules.live", "states.numbers", "wrappers", "states.regroup", "backward", "rows"),
    "Schedules": ("schedules",),
    "Averages and lookahead": ("trajectories", "states.averages", "wrappers.averaged"),
    "State and memory": ("_state", "states.bytes", "states.masters", "states.convert", "states.packing", "moments"),
    "What a step does": ("states.plan", "kernels"),
    "Many devices": ("sharding",),
    "Flax": ("flax", "embed"),
    "Moving from elsewhere": ("presets", "states.foreign", "states.pytorch"),
    "Diagnostics": ("diagnostics",),
    "Modifiers": ("modifiers",),
    "Writing a rule": ("_rule", "_context", "_annotations", "estimates", "idle", "wrapper", "rules"),
    "Theory": ("theory",),
}
"""For each page files or folders of `adamx`, or names in them; the longest that a name begins with decides."""

INDEX = "reference/index.md"

TYPES = ("_annotations", "_decay", "_weights", "groups", "moments")
"""The files whose type aliases signatures name; where they are not public, they have a page of their own."""


def public() -> dict[str, griffe.Object | griffe.Alias]:
    """Every public name that is no module, under the first where something has two: `{"adamx.adam": …}`."""
    package = griffe.load("adamx", search_paths=[ROOT])
    names = [name for name, path in package.imports.items() if name[0] != "_" and path.startswith("adamx.")]
    found: dict[str, tuple[str, griffe.Object | griffe.Alias]] = {}

    def add(name: str) -> None:
        if package[name].is_module:
            raise ValueError(f"adamx.{name} is a name and a file: the file needs another one")
        found.setdefault(package[name].canonical_path, (f"adamx.{name}", package[name]))

    for name in names:
        if not package[name].is_module:
            add(name)
    for module in (*(name for name in names if package[name].is_module), "flax"):
        listed = package[module].exports or package[module].imports
        for name in listed:
            if not str(name).startswith("_"):
                add(f"{module}.{name}")
    return dict(found.values())


def file_of(item: griffe.Object | griffe.Alias) -> str:
    """The file in which something is written, "rules.adam"."""
    return item.canonical_path.removeprefix("adamx.").rpartition(".")[0]


def pages() -> dict[str, dict[str, str]]:
    """The texts of all pages by title and path, in the order of the navigation."""
    found = public()
    families: dict[str, list[str]] = {}
    for name in FACTORIES:
        families.setdefault(file_of(found[f"adamx.{name}"]), []).append(f"adamx.{name}")
    topics: dict[str, list[str]] = {title: [] for title in PAGES}
    for name, item in found.items():
        if (file := file_of(item)) not in families:
            topics[title_of(name, item)].append(name)
        elif name not in families[file]:
            families[file].append(name)
    for title, names in topics.items():  # in the order of its files
        names.sort(key=lambda name: PAGES[title].index(fits(name, found[name])[1]))
    optimizers = {
        f"reference/optimizers/{file.rpartition('.')[2]}.md": family(names) for file, names in families.items()
    }
    texts = {"": {INDEX: index(families, topics, found)}, "Optimizers": optimizers}
    texts |= {title: {path_of(title): page(title, names, modules_of(title, found))} for title, names in topics.items()}
    return texts | {"Types": {path_of("Types"): types(found)}}


def path_of(title: str) -> str:
    return f"reference/{title.lower().replace(' ', '_')}.md"


def modules_of(title: str, found: Iterable[str]) -> list[str]:
    """The public modules of which a page is."""
    return [f"adamx.{part}" for part in PAGES[title] if any(name.startswith(f"adamx.{part}.") for name in found)]


def title_of(name: str, item: griffe.Object | griffe.Alias) -> str:
    """The page of a name that is not an optimizer's."""
    return fits(name, item)[0]


def fits(name: str, item: griffe.Object | griffe.Alias) -> tuple[str, str]:
    """The page, and the part of it, that has a name."""
    here = f"{item.canonical_path.removeprefix('adamx.')}."
    found = [(part, title) for title, parts in PAGES.items() for part in parts if here.startswith(f"{part}.")]
    if not found:
        raise ValueError(f"{name} has no page: put {here[:-1]}, or its file, into `PAGES` of {__file__}")
    part, title = max(found, key=lambda x: len(x[0]))
    return title, part


def page(title: str, names: list[str], modules: list[str], head: str = "") -> str:
    """A page of names, each with its docstring, after what modules say of themselves."""
    entries = [f"::: {name}\n    options: {{members: false}}" for name in modules] + [f"::: {name}" for name in names]
    return "\n\n".join([BEHIND_GUIDES, f"# {title}", head, *entries]) + "\n"


BEHIND_GUIDES = "---\nsearch: {boost: 0.5}\n---"
"""In what search finds: thirty pages say of their arguments what a guide explains."""


def types(found: Iterable[str]) -> str:
    """The page of what signatures name and users do not."""
    package = griffe.load("adamx", search_paths=[ROOT])
    public = {name.rpartition(".")[2] for name in found}
    entries = [
        f"::: adamx.{file}.{name}\n    options: {{show_root_full_path: false}}"
        for file in TYPES
        for name, item in package[file].members.items()
        if isinstance(item, griffe.Attribute)
        and str(item.annotation) == "TypeAlias"
        and item.docstring
        and name not in public
    ]
    return "\n\n".join([BEHIND_GUIDES, "# Types", "What signatures call their arguments.", *entries]) + "\n"


def family(names: list[str]) -> str:
    """An optimizer's page: its factories, the rule, and what chains have of it."""
    summary = describe(names[0].removeprefix("adamx."))
    numbers = "number" if summary.state == 1 else "numbers"
    head = f"{summary.summary} Its state is {summary.state:g} {numbers} for each parameter of a large matrix."
    return page(title(names[0]), names, [], head)


def title(name: str) -> str:
    """What a named optimizer is called in prose."""
    return (FACTORIES[name.removeprefix("adamx.")].__doc__ or "").partition(" (")[0]


def index(
    families: Mapping[str, list[str]],
    topics: Mapping[str, list[str]],
    found: Mapping[str, griffe.Object | griffe.Alias],
) -> str:
    """Every public name in a line."""
    parts = [
        "# Reference",
        "Every public name. `import adamx` has all but those of a module, which is named with them.",
    ]
    for heading, names in {"Optimizers": [*itertools.chain(*families.values())], **topics}.items():
        lines = (f"| `{name}` | {first_line(found[name])} |" for name in names)
        parts.append("\n".join([f"## {heading}\n", "| name | what it is |", "| --- | --- |", *lines]))
    return "\n\n".join(parts) + "\n"


def first_line(item: griffe.Object | griffe.Alias) -> str:
    if item.docstring is None:
        raise ValueError(f"{item.canonical_path} is public and has no docstring")
    return " ".join(item.docstring.value.partition("\n\n")[0].split()).replace("|", "\\|")
