"""The registry that every contract runs over, and the trees and gradients that they run on."""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx
from adamx._factory import FACTORIES
from adamx._weights import ROUNDINGS
from adamx.wrapper import parts_of
from tests.compiling import AS_USERS_DO, UNOPTIMIZED

MISSING = adamx.kernels.cpu.calls.missing()
product = pytest.mark.product
NARROW_MODES = [mode for mode, rounding in ROUNDINGS.items() if rounding is not None]
"""How weights narrower than float32 are rounded by the step itself."""
needs_host_memory = pytest.mark.skipif(
    jax.__version_info__ < (0, 10), reason="before JAX 0.10 XLA runs no such program on CPUs"
)
needs_native = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


class SoftSign(adamx.Rule[tuple[()]]):
    """A user's own rule, without slots."""

    def step(self, g, s, at):
        return g / (1 + jnp.abs(g)), s


class Entry(NamedTuple):
    """An optimizer under test: its name, and how to make it with a step size."""

    name: str
    make: Callable[..., adamx.Optimizer]

    def __str__(self) -> str:
        return self.name


def _with(factory, **fixed):
    return lambda learning_rate, **kwargs: factory(learning_rate, **{**fixed, **kwargs})


OPTIMIZERS = [
    Entry("adam", adamx.adam),
    Entry("adam_nesterov", _with(adamx.adam, nesterov=True)),
    Entry("adam_eps_hat", _with(adamx.adam, eps_hat=True)),
    Entry("adam_no_eps", _with(adamx.adam, eps=0.0)),
    Entry("adam_mu_bfloat16", _with(adamx.adam, mu_dtype=jnp.bfloat16)),
    Entry("adam_scheduled_betas", _with(adamx.adam, b1=adamx.schedules.decayed_beta(0.9, 0.99), b2=lambda _: 0.999)),
    Entry("adamw", _with(adamx.adamw, weight_decay=0.01)),
    Entry("adamw_independent", _with(adamx.adamw, weight_decay=1e-4, decay="independent", lr_max=1.0)),
    Entry("adamw_cautious", _with(adamx.adamw, weight_decay=0.01, decay="cautious")),
    Entry("adamw_l2", _with(adamx.adamw, weight_decay=0.01, decay="l2")),
    Entry("adamax", adamx.adamax),
    Entry("adamax_no_eps", _with(adamx.adamax, eps=0.0)),
    Entry("adamaxw", _with(adamx.adamaxw, weight_decay=0.01)),
    *(Entry(name, make) for name, make in FACTORIES.items() if name not in {"adam", "adamw", "adamax", "adamaxw"}),
    Entry("nadam_dozat", _with(adamx.nadam, momentum_decay=4e-3)),
    Entry("amsgrad_pytorch", _with(adamx.amsgrad, max_of="raw")),
    Entry("radam_official", _with(adamx.radam, unrectified="skip", eps_hat=True)),
    Entry("rmsprop_everything", _with(adamx.rmsprop, centered=True, momentum=0.9, nesterov=True)),
    Entry("adafactor_factored", _with(adamx.adafactor, min_dim_size_to_factor=2, momentum=0.9)),
    Entry("prodigy_corrected", _with(adamx.prodigy, bias_correction=True, estim_lr0=1e-3)),
    Entry("muon_rows", _with(adamx.muon, second_moment="rows")),
    Entry("muon_elements", _with(adamx.muon, second_moment="elements")),
    Entry("users_rule", _with(lambda learning_rate: adamx.optimizer(SoftSign(), learning_rate))),
]

SOME = "bias|scalar"
"""A pattern of some leaves, but not all, of every tree that a contract is tried on."""


def _around(make, *wraps):
    """What an optimizer is with these wrappers around it, the innermost first."""
    return lambda *args, **kwargs: functools.reduce(lambda opt, wrap: wrap(opt), wraps, make(*args, **kwargs))


def _by_path(some, others):
    return lambda *args, **kwargs: adamx.by_path({SOME: some(*args, **kwargs), ".*": others(*args, **kwargs)})


_accumulate = functools.partial(adamx.accumulate, every=2)
_averaged = functools.partial(adamx.averaged, decay=(0.9, None))
_groups = [adamx.Group(SOME, frozen=True), adamx.Group(".*", b2=0.95, learning_rate_scale=0.5, weight_decay_scale=2.0)]
_grouped = _with(adamx.adamw, weight_decay=0.01, groups=_groups)
_live = {name: adamx.live(name, x) for name, x in {"b1": 0.9, "weight_decay": 0.01}.items()}
_both = _by_path(adamx.prodigy, adamx.schedule_free_adamw)

NESTED = [
    Entry("guard_accumulate_averaged", _around(_with(_grouped, **_live), _averaged, _accumulate, adamx.guard)),
    Entry("monitor_guard_by_path", _around(_both, adamx.guard, adamx.monitor)),
]
"""Wrappers around each other: of each all there is, around groups of live numbers, and what averages iterates."""

WRAPPED = [
    *NESTED,
    Entry("groups", _grouped),
    Entry("live", _with(adamx.adamw, **_live)),
    Entry("guard", _around(adamx.adamw, adamx.guard)),
    Entry("accumulate", _around(adamx.adamw, _accumulate)),
    Entry("averaged", _around(adamx.adamw, _averaged)),
    Entry("by_path", _by_path(adamx.lion, adamx.adamw)),
    Entry("wrapped_schedule_free", _around(adamx.schedule_free_adamw, _averaged, _accumulate, adamx.guard)),
    Entry("wrapped_prodigy", _around(adamx.prodigy, _averaged, _accumulate, adamx.guard)),
]
"""Groups, live numbers and wrappers."""

LEAFWISE = {
    entry.name
    for entry in (*OPTIMIZERS, *WRAPPED)
    if not all(part[0].rule.elementwise for part in parts_of(entry.make(1e-2)))
}
"""Those that mix the elements of a leaf, or of all leaves."""

SHAPES: dict[str, Any] = {"matrix": (3, 4), "layer": {"bias": (5,), "scalar": ()}, "empty": (0, 2)}


def tree(dtype: Any, seed: int = 0) -> Any:
    """Random normal values in SHAPES, with an absent leaf."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        x = rng.standard_normal(shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            x = x + 1j * rng.standard_normal(shape)
        return jnp.asarray(x, dtype)

    values = jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))
    return {**values, "absent": None}


def small(dtype: Any, seed: int = 0) -> Any:
    """A matrix and a scalar of it: XLA takes a tenth of a second for each leaf."""
    values = tree(dtype, seed)
    return {"matrix": values["matrix"], "scalar": values["layer"]["scalar"]}


def of_all_kinds(of_parameters: bool, seed: int = 0) -> Any:
    """One leaf for each way in which an engine meets dtypes, so that one program is compiled for all of them."""
    kinds = {
        "matrix": (jnp.float32, jnp.float32),
        "bias": (jnp.bfloat16, jnp.float32),
        "scalar": (jnp.float16, jnp.float16),
        "phase": (jnp.complex64, jnp.complex64),
    }
    values = {name: tree(p if of_parameters else g, seed) for name, (p, g) in kinds.items()}
    shapes = {"matrix": "matrix", "bias": "matrix", "phase": "matrix"}
    picked = {name: values[name][shape] for name, shape in shapes.items()}
    return {**picked, "scalar": values["scalar"]["layer"]["scalar"], "absent": None}


def some(cases: Iterable[tuple[Any, ...]], stands: Callable[..., bool]) -> list[Any]:
    """Cases of which those that `stands` picks stand for the others, which are left to `make test-all`."""
    return [pytest.param(*case, marks=() if stands(*case) else product) for case in cases]


def wrapped() -> list[Any]:
    """Wrappers around each other stand for each by itself, which is left to `make test-all`."""
    return some([(entry,) for entry in WRAPPED], lambda entry: entry in NESTED)


@functools.cache
def _structure(entry: Entry) -> Any:
    """What tells the state of one optimizer from that of another."""
    state = jax.eval_shape(entry.make(1e-2).init, jax.eval_shape(lambda: tree(jnp.float32)))
    return jax.tree.structure(state), tuple((x.shape, x.dtype) for x in jax.tree.leaves(state))


def represented(entries: list[Entry], mixing: bool = True) -> list[Any]:
    """The first of each structure of slots, and those that mix elements; the others are left to `make test-all`."""
    seen, found = set(), []
    for entry in entries:
        alike = _structure(entry) in seen and not (mixing and entry.name in LEAFWISE)
        found.append(pytest.param(entry, marks=[product] if alike else []))
        seen.add(_structure(entry))
    return found


def dtypes(x: Any) -> Any:
    """The dtype and weak type of every leaf: what decides whether a function compiles again."""
    return jax.tree.map(lambda a: (a.shape, str(a.dtype), a.weak_type), x)


def ulp(dtype: Any) -> float:
    """The spacing of the numbers of `dtype` above 1: rounding to nearest errs by half of it."""
    return float(jnp.finfo(dtype).eps)


def assert_close(got: Any, wanted: Any, roundings: int) -> None:
    """Every float32 of the tree within so many roundings of the wanted one."""
    tolerance = roundings * ulp(jnp.float32)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance), got, wanted)


def collectives(text: str) -> dict[str, int]:
    """How many collectives of each kind are in the text of a compiled program."""
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    found = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in kinds}
    return {kind: n for kind, n in found.items() if n}


def hostile(shape: tuple[int, ...], steps: int, seed: int = 0) -> np.ndarray:
    """Gradients from 1e-30 to 1e30: constant, alternating, sparse, zero, random signs; (steps, *shape) in float64."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-30, 30, shape)
    steady = np.ones((steps, 1))
    kinds = [
        steady,
        (-1.0) ** np.arange(steps)[:, None],
        (np.arange(steps)[:, None] % 10 == 0) * 1.0,
        0 * steady,
        rng.standard_normal((steps, 1)),
        np.where(np.arange(steps)[:, None] < steps // 2, 1.0, 1e-6),
        10.0 ** rng.uniform(-8, 8, (steps, 1)),
    ]
    n = int(np.prod(shape))
    columns = np.concatenate([kinds[i % len(kinds)] for i in range(n)], axis=1)
    return columns.reshape(steps, *shape) * scale


def scanned(tx: optax.GradientTransformation, grads: jax.Array) -> Any:
    """The update of each step; the gradients of the steps are the rows of `grads`."""

    def body(state, g):
        u, state = tx.update(g, state)
        return state, u

    return jax.lax.scan(body, tx.init(grads[0]), grads)[1]


jitted_in_float64 = functools.partial(jax.jit, compiler_options=UNOPTIMIZED)
"""For definitions, compared in float64, and for bits: products and sums are not contracted."""

as_users_do = functools.partial(jax.jit, compiler_options=AS_USERS_DO)
"""For what LLVM may round otherwise, or drop: float32 beside its definition or C++, and NaN; and for many steps."""


def directions(rule: adamx.Rule, grads: jax.Array) -> Any:
    """The direction of each step of a rule; compiled once for each rule, shape and dtype."""
    try:
        hash(rule)
    except TypeError:  # of hyperparameters that are arrays
        return as_users_do(lambda grads: scanned(adamx.scale_by(rule), grads))(grads)
    return (_directions if grads.dtype in (jnp.float32, jnp.complex64) else _directions_in_float64)(rule, grads)


def _of_rule(rule, grads):
    return scanned(adamx.scale_by(rule), grads)


_directions = as_users_do(_of_rule, static_argnums=0)
_directions_in_float64 = jitted_in_float64(_of_rule, static_argnums=0)
