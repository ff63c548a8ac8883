"""Every rule beside its paper's box: what test_reference.py and the benchmarks run over."""

from functools import partial
from typing import Any

import numpy as np

import adamx
from tests import reference as ref
from tests.reference.precision import LONG

# The rule, and the box that yields its directions.
DIRECTIONS: dict[str, tuple[adamx.Rule[Any], Any]] = {
    "adam": (adamx.Adam(), ref.adam),
    "adam_b2_.99999": (adamx.Adam(b2=0.99999), partial(ref.adam, b2=0.99999)),
    "adam_b1_0": (adamx.Adam(b1=0.0), partial(ref.adam, b1=0.0)),
    "adam_eps_root": (adamx.Adam(eps_root=1e-3), partial(ref.adam, eps_root=1e-3)),
    "adam_no_eps": (adamx.Adam(eps=0.0), partial(ref.adam, eps=0.0)),
    "adam_nesterov": (adamx.Adam(nesterov=True), partial(ref.adam, nesterov=True)),
    "adam_eps_hat": (adamx.Adam(eps=1e-4, eps_hat=True), partial(ref.adam, eps=1e-4, eps_hat=True)),
    "adam_eps_hat_root": (
        adamx.Adam(eps_root=1e-4, eps_hat=True, nesterov=True),
        partial(ref.adam, eps_root=1e-4, eps_hat=True, nesterov=True),
    ),
    "adam_biased": (adamx.Adam(bias_correction=False), partial(ref.adam, bias=False)),
    "adam_biased_nesterov": (
        adamx.Adam(bias_correction=False, nesterov=True),
        partial(ref.adam, bias=False, nesterov=True),
    ),
    "adamax": (adamx.AdaMax(), partial(ref.adamax, eps=1e-8)),
    "adamax_as_printed": (adamx.AdaMax(eps=0.0), ref.adamax),
    "amsgrad": (adamx.AMSGrad(), ref.amsgrad),
    "amsgrad_paper": (
        adamx.AMSGrad(bias_correction_mu=False, bias_correction_nu=False),
        partial(ref.amsgrad, form="raw"),
    ),
    "amsgrad_pytorch": (adamx.AMSGrad(max_of="raw"), partial(ref.amsgrad, form="pytorch")),
    "adamx": (
        adamx.AdamX(b1=adamx.schedules.decayed_beta(0.9, 0.99)),
        partial(ref.adamx, b1=lambda t: 0.9 * 0.99 ** (t - 1), eps=1e-8),
    ),
    "nadam": (adamx.NAdam(), ref.nadam),
    "radam": (adamx.RAdam(), partial(ref.radam, eps_form="alg1")),
    "radam_official": (
        adamx.RAdam(eps_hat=True, unrectified="skip"),
        partial(ref.radam, eps_form="hat", unrectified="skip"),
    ),
    "radam_b2_.9999": (adamx.RAdam(b2=0.9999), partial(ref.radam, b2=0.9999, eps_form="alg1")),
    "adabelief": (adamx.AdaBelief(), ref.adabelief),
    "yogi": (adamx.Yogi(), ref.yogi),
    "laprop": (adamx.LaProp(), ref.laprop),
    "adam_atan2": (adamx.AdamAtan2(), ref.adam_atan2),
    "adam_mini": (adamx.AdamMini(), partial(ref.adam_mini, keep=(-1,))),
    "adam_mini_one_block": (adamx.AdamMini(keep=()), partial(ref.adam_mini, keep=())),
    "adagrad": (adamx.AdaGrad(), partial(ref.adagrad, initial_accumulator=0.1, eps=1e-7, form="root")),
    "adagrad_pytorch": (
        adamx.AdaGrad(initial_accumulator_value=0.0, eps=1e-10, eps_in_sqrt=False),
        partial(ref.adagrad, eps=1e-10, form="alg1"),
    ),
    "adadelta": (adamx.AdaDelta(), ref.adadelta),
    "rmsprop": (adamx.RMSProp(), ref.rmsprop),
    "rmsprop_pytorch": (adamx.RMSProp(eps_in_sqrt=False), partial(ref.rmsprop, eps_in_sqrt=False)),
    "rmsprop_momentum": (adamx.RMSProp(momentum=0.9), partial(ref.rmsprop, momentum=0.9)),
    "rmsprop_nesterov": (
        adamx.RMSProp(momentum=0.9, nesterov=True),
        partial(ref.rmsprop, momentum=0.9, nesterov=True),
    ),
    "rmsprop_corrected": (adamx.RMSProp(bias_correction=True), partial(ref.rmsprop, bias_correction=True)),
    "rmsprop_centred": (adamx.RMSProp(centered=True), partial(ref.rmsprop, centered=True)),
    "lion": (adamx.Lion(), ref.lion),
    "adan": (adamx.Adan(), ref.adan),
    "adopt": (adamx.ADOPT(), ref.adopt),
    "adopt_unclipped": (adamx.ADOPT(use_clipping=False), partial(ref.adopt, clip=False)),
    "ademamix": (adamx.AdEMAMix(), ref.ademamix),
    "ademamix_warmed_up": (
        adamx.AdEMAMix(
            alpha=adamx.schedules.ademamix_alpha(8.0, 100), b3=adamx.schedules.ademamix_b3(0.9999, 0.9, 100)
        ),
        partial(ref.ademamix, alpha=lambda t: min(t / 100, 1) * 8, b3=lambda t: _b3(min(t / 100, 1))),
    ),
    "simplified_ademamix": (adamx.SimplifiedAdEMAMix(alpha=2.0), partial(ref.simplified_ademamix, alpha=2.0)),
    "novograd": (adamx.NovoGrad(), ref.novograd),
    "came": (adamx.CAME(), ref.came),
    "grams": (adamx.Grams(adamx.Adam(eps=1e-6, eps_hat=True)), ref.grams),
    "mars": (
        adamx.MARS(adamx.Adam(b1=0.95, b2=0.99)),
        lambda grads: ref.adam(list(ref.mars(grads)), b1=0.95, b2=0.99),
    ),
    "cautious": (adamx.Cautious(adamx.Adam()), lambda grads: ref.cautious(ref.adam(grads), grads)),
    "cautious_count": (
        adamx.Cautious(adamx.Adam(), "count"),
        lambda grads: ref.cautious(ref.adam(grads), grads, form="v1"),
    ),
}


def _b3(share: float) -> Any:
    """AdEMAMix's warm-up of the slow decay rate: linear in f(b) = log(.5) / log(b) - 1, from b1 to b3."""
    first, last = (np.log(LONG(0.5)) / np.log(LONG(b)) - 1 for b in (0.9, 0.9999))
    return LONG(0.5) ** (1 / ((1 - share) * first + share * last + 1))


# Boxes whose step depends on the parameters yield those: the optimizer, and box(grads, p).
PARAMETERS: dict[str, tuple[adamx.Optimizer, Any]] = {
    "stable_adamw": (
        adamx.stable_adamw(1e-2, weight_decay=0.1),
        lambda grads, p: ref.stable_adamw(grads, p, 1e-2, wd=0.1),
    ),
    "lamb": (adamx.lamb(1e-2, weight_decay=0.1), lambda grads, p: ref.lamb(grads, p, 1e-2, wd=0.1)),
    "adafactor": (adamx.adafactor(1e-2, min_dim_size_to_factor=1), lambda grads, p: ref.adafactor(grads, p, 1e-2)),
    "adafactor_paper": (
        adamx.adafactor(adamx.schedules.relative_step(), min_dim_size_to_factor=1),
        lambda grads, p: ref.adafactor(grads, p),
    ),
    "adafactor_whole": (
        adamx.adafactor(1e-2, factored=False),
        lambda grads, p: ref.adafactor(grads, p, 1e-2, factored=False),
    ),
    "adafactor_unscaled": (
        adamx.adafactor(1e-2, min_dim_size_to_factor=1, multiply_by_parameter_scale=False),
        lambda grads, p: ref.adafactor(grads, p, 1e-2, multiply_by_parameter_scale=False),
    ),
    "adafactor_pytorch": (
        adamx.optimizer(adamx.Adafactor(min_dim_size_to_factor=1, clamped=True, eps=1e-16), 1e-2),
        lambda grads, p: ref.adafactor(grads, p, 1e-2, clamp=True, eps1=1e-16),
    ),
    "schedule_free_adamw": (
        adamx.schedule_free_adamw(1e-2, warmup_steps=10, weight_decay=0.1, r=0.5),
        lambda grads, p: (y for y, _ in ref.schedule_free_adamw(grads, p, _warm_up, wd=0.1, r=0.5)),
    ),
    "schedule_free_sgd": (
        adamx.schedule_free_sgd(1e-2, weight_decay=0.1),
        lambda grads, p: (y for y, _ in ref.schedule_free_sgd(grads, p, 1e-2, wd=0.1)),
    ),
}


def _warm_up(t: int) -> float:
    return 1e-2 * min(1, t / 10)


CANCELLING = {"rmsprop_centred"}
"""Boxes that subtract two nearly equal averages of a steady gradient, and keep fewer digits than the rule."""

REAL_ONLY = {"lion", "adopt", "adopt_unclipped", "adam_atan2", "grams", "cautious", "cautious_count"}
"""Boxes of signs, clips and angles, written for real numbers."""
