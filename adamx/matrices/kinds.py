"""Which leaves are weights of hidden layers, whose inputs and outputs are dense: those that Muon is for."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .layout import axes

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "an embedding": r"embed|^emb$|^w[tp]e$|_emb$|^(cls|mask|register)_tokens?$",
        "a head": r"^(?!multi_?)(\w+_)?(lm_?)?head(_?\d+)?$|unembed|logit|^classifier$",
        "a router": r"router|^gate$",
        "a norm's": r"norm(_?\d+)?$|^ln(_?\w+)?$|^(scale|gain|gamma|beta)$",
        "a bias": r"bias|^b$",
    }
)
"""What a leaf is if one of the keys of its path is such, in lower case: kinds that Muon's authors leave to Adam."""


def why_not(path: str, shape: Sequence[int], layout: str) -> str:
    """Why Muon is not for a leaf; "" if it is.

    Args:
        path: its keys, joined by "/".
        shape: its shape.
        layout: what its axes are declared to be.
    """
    if len(shape) < 2:
        return "a vector" if shape else "a scalar"
    keys = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower().split("/")
    for kind, pattern in NAMES.items():
        if any(re.search(pattern, key) for key in keys):
            return f"{kind}, by its name"
    own = axes(layout)
    if own.misfit(shape):
        return f"{len(shape)} axes, not {layout!r}"
    first, last = own.words.index("out"), len(own.words) - 1 - own.words[::-1].index("out")
    beside = [i for i in (first - 1, last + 1) if 0 <= i < len(shape) and own.words[i] == "in"]
    if own.sizes(shape)[2] == 1 or any(shape[i] == 1 for i in beside):
        return "a depthwise kernel, by its shape" if len(shape) > 2 else "a vector, by its shape"
    return ""
