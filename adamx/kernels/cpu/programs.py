"""The rules that the C++ library computes: for each its number, its variants and the numbers that it reads."""

from typing import Any

import jax.numpy as jnp

from ..._annotations import Array
from ..._math import bias_correction, debias, eps_beside_hat
from ...rules.adagrad import AdaGrad
from ...rules.adam import Adam
from ...rules.adamax import AdaMax
from ...rules.amsgrad import AMSGrad
from ...rules.lion import Lion
from ...rules.rmsprop import RMSProp
from .interface import PROGRAMS, Flags, Program, Unit, Writer
from .interface import Rule as Of

NONE = Flags(0)


def _average(name: str, b: Any) -> dict[str, Any]:
    """`_math.ema` as the kernel computes it: the end it moves from, and the weight."""
    if isinstance(b, (int, float)):
        return {f"{name}_weight": 1 - b if b >= 0.5 else b, f"{name}_from_old": float(b >= 0.5)}
    b = jnp.asarray(b, jnp.float32)
    return {f"{name}_weight": jnp.where(b >= 0.5, 1 - b, b), f"{name}_from_old": (b >= 0.5).astype(jnp.float32)}


def _adam(rule: Adam, t: Array) -> Program:
    scalars = _average("first", rule.b1) | _average("second", rule.b2) | {"eps": rule.eps, "eps_root": rule.eps_root}
    if rule.bias_correction:
        scalars |= _corrections(rule.b1, rule.b2, t) | {"next_correction": bias_correction(rule.b1, t + 1)}
        if rule.eps_hat:
            scalars["eps"] = eps_beside_hat(rule.eps, rule.b2, t)
            scalars["eps_root"] = debias(jnp.asarray(rule.eps_root, jnp.float32), rule.b2, t)
    return Program(Of.ADAM, Flags.NESTEROV if rule.nesterov else NONE, scalars, Unit.ROOT)


def _amsgrad(rule: AMSGrad, t: Array) -> Program:
    scalars = _average("first", rule.b1) | _average("second", rule.b2) | {"eps": rule.eps, "eps_root": rule.eps_root}
    corrections = _corrections(rule.b1, rule.b2, t)
    if rule.bias_correction_mu:
        scalars["first_correction"] = corrections["first_correction"]
    if rule.bias_correction_nu:
        scalars["second_correction"] = corrections["second_correction"]
    if rule.eps_hat:
        scalars["eps"] = eps_beside_hat(rule.eps, rule.b2, t)
    return Program(Of.AMSGRAD, Flags.RAW if rule.max_of == "raw" else NONE, scalars, Unit.ROOT)


def _adamax(rule: AdaMax, t: Array) -> Program:
    inside, outside = (0.0, rule.eps) if rule.eps_outside else (rule.eps, 0.0)
    scalars = _average("first", rule.b1) | {"decay_rate": rule.b2, "eps_root": inside, "eps": outside}
    if rule.bias_correction:
        scalars["first_correction"] = bias_correction(rule.b1, t)
    return Program(Of.ADAMAX, NONE, scalars, Unit.ITSELF)


def _lion(rule: Lion, t: Array) -> Program:
    del t
    return Program(Of.LION, NONE, _average("first", rule.b1) | _average("second", rule.b2))


def _rmsprop(rule: RMSProp, t: Array) -> Program:
    inside, outside = (rule.eps, 0.0) if rule.eps_in_sqrt else (0.0, rule.eps)
    scalars = _average("second", rule.decay) | {"eps_root": inside, "eps": outside}
    scalars["step_size"] = 1.0 if rule.step_size is None else rule.step_size
    if rule.bias_correction:
        scalars["second_correction"] = bias_correction(rule.decay, t)
    if rule.momentum is None:
        return Program(Of.RMSPROP, NONE, scalars)
    flags = Flags.MOMENTUM | Flags.NESTEROV if rule.nesterov else Flags.MOMENTUM
    return Program(Of.RMSPROP, flags, scalars | {"momentum": rule.momentum})


def _adagrad(rule: AdaGrad, t: Array) -> Program:
    del t
    inside, outside = (rule.eps, 0.0) if rule.eps_in_sqrt else (0.0, rule.eps)
    return Program(Of.ADAGRAD, NONE, {"eps_root": inside, "eps": outside})


def _corrections(b1: Any, b2: Any, t: Array) -> dict[str, Any]:
    return {"first_correction": bias_correction(b1, t), "second_correction": bias_correction(b2, t)}


def _hard_only(rule: Lion) -> str | None:
    return None if rule.mode == "hard" else f"it knows Lion with mode='hard', not {rule.mode!r}"


def _plain_only(rule: RMSProp) -> str | None:
    return "it knows RMSProp without `centered`" if rule.centered else None


PROGRAMS |= {
    Adam: Writer(_adam),
    AMSGrad: Writer(_amsgrad),
    AdaMax: Writer(_adamax),
    Lion: Writer(_lion, _hard_only),
    RMSProp: Writer(_rmsprop, _plain_only),
    AdaGrad: Writer(_adagrad),
}
