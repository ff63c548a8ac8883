"""Moonlight (arXiv:2502.16982), the official code."""

from typing import Any

from ..rules.muon import Muon
from ._preset import Preset, Recipe


def _muon(o: Any) -> Recipe:
    rule = Muon(
        o.momentum,
        o.nesterov,
        bias_correction=False,
        ns_steps=o.ns_steps,
        ns_dtype="bfloat16",
        eps=1e-7,
        scale="rms",
        layout="out,in",
    )
    return Recipe(rule, o.lr, o.wd)


PRESETS = (
    Preset(
        "moonlight",
        "muon",
        {"lr": 1e-3, "wd": 0.1, "momentum": 0.95, "nesterov": True, "ns_steps": 5},
        _muon,
        "of matrices (out, in) only, orthogonal in bfloat16; others by AdamW with betas (.9, .95), the same lr and wd",
    ),
)
