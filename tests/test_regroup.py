"""Leaves are frozen and thawed, and formats changed, under every wrapper: what wrappers keep follows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
import adamx.flax
from adamx import Group

PARAMS = {"a": jnp.arange(1.0, 5.0), "b": jnp.full(3, 2.0)}
GRADS = {"a": jnp.full(4, 0.5), "b": jnp.array([1.0, -2.0, 3.0])}


@dataclasses.dataclass(frozen=True, eq=False)
class Last(adamx.Wrapper):
    """A user's wrapper, whose state is a tuple: of the optimizer, and the last gradients of leaves that move."""

    def init(self, params):
        leaves, tree = jax.tree.flatten(params, is_leaf=lambda x: x is None)
        frozen = self.frozen(adamx._leaves.flatten(params, "params"))
        return self.opt.init(params), tree.unflatten([None if f else x for f, x in zip(frozen, leaves, strict=True)])

    def update(self, updates, state, params=None, **extra_args):
        updates, inner = self.opt.update(updates, state[0], params, **extra_args)
        return updates, (inner, state[1])

    def step(self, grads, state, params, **options):
        params, inner = self.opt.step(grads, state[0], params, **options)
        return params, (
            inner,
            jax.tree.map(lambda x, g: x if x is None else g, state[1], grads, is_leaf=lambda x: x is None),
        )


def make(kind, frozen, every=1, moments="float32"):
    """An optimizer of the kind that does or does not freeze `b`."""
    opt = adamx.adam(0.1, groups=[Group("b", frozen=True)] if frozen else (), kernel="xla")
    averaged = functools.partial(adamx.averaged, decay=(0.9, None), moments=moments)
    accumulate = functools.partial(adamx.accumulate, every=every)
    by_path = lambda x: adamx.by_path({"a": adamx.averaged(adamx.adam(0.2)), ".*": x})  # noqa: E731
    return {
        "averaged": averaged,
        "accumulate": accumulate,
        "guard": adamx.guard,
        "monitor": adamx.monitor,
        "lookahead": adamx.lookahead,
        "user": lambda x: Last(x).optimizer(),
        "guard(accumulate(averaged))": lambda x: adamx.guard(accumulate(averaged(x))),
        "averaged(guard)": lambda x: averaged(adamx.guard(x)),
        "by_path(averaged)": lambda x: by_path(averaged(x)),
        "averaged(by_path)": lambda x: averaged(by_path(x)),
        "monitor(user(averaged))": lambda x: adamx.monitor(Last(averaged(x)).optimizer()),
    }[kind](opt)


KINDS = [
    "averaged",
    "accumulate",
    "guard",
    "monitor",
    "lookahead",
    "user",
    "guard(accumulate(averaged))",
    "averaged(guard)",
    "by_path(averaged)",
    "averaged(by_path)",
    "monitor(user(averaged))",
]


def step(opt, state, params):
    return jax.jit(opt.step)(GRADS, state, params)


@pytest.mark.parametrize("kind", KINDS)
def test_leaves_freeze_and_thaw_under_wrappers_and_their_nestings(kind):
    frozen, thawed = make(kind, frozen=True), make(kind, frozen=False)
    params, state = step(frozen, frozen.init(PARAMS), PARAMS)
    state = adamx.regroup(thawed, state, params)
    form = lambda opt: jax.tree.map(lambda x: (x.shape, x.dtype), jax.eval_shape(opt.init, PARAMS))  # noqa: E731
    is_state = lambda x: isinstance(x, adamx.State)  # noqa: E731
    bare = jax.tree.map(lambda x: x._replace(begun=()) if is_state(x) else x, state, is_leaf=is_state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), bare) == form(thawed)
    new, state = step(thawed, state, params)
    np.testing.assert_array_equal(params["b"], PARAMS["b"])
    np.testing.assert_allclose(new["b"], params["b"] - 0.1 * np.sign(GRADS["b"]), rtol=1e-6)
    again = adamx.regroup(frozen, state, new)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), again) == form(frozen)
    last, after = step(frozen, again, new)
    np.testing.assert_array_equal(last["b"], new["b"])
    assert (last["a"] != new["a"]).all()
