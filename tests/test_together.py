"""`at.together`: equal functions of whole arrays of several leaves are one, on one device and on several."""

import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from tests.helpers import collectives


class Momentum(NamedTuple):
    """The slot of the rule under test."""

    mu: Any


def newton_schulz(x, eps, steps):
    """The matrix with singular values near 1."""
    x = x / (jnp.sqrt(jnp.sum(x * x)) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x


class Orthogonal(adamx.Rule[Momentum]):
    """Momentum made orthogonal, of matrices in the last two axes; with `summed`, of the length of the weight."""

    b1: adamx.Beta = 0.9
    eps: adamx.NonNegative = 1e-7
    steps: int = adamx.static(default=5)
    summed: bool = adamx.static(default=False)
    slots = Momentum(mu=adamx.Slot())
    elementwise = False

    def step(self, g, s, at):
        mu = self.b1 * s.mu + g
        orthogonal = functools.partial(at.together, functools.partial(newton_schulz, steps=self.steps))
        of_matrix = lambda x: orthogonal(x, shared=(self.eps,))  # noqa: E731
        u = (jax.vmap(of_matrix) if g.ndim > 2 else of_matrix)(mu)
        return u * at.norm(at.p) / at.norm(u) if self.summed else u, Momentum(mu)


SHAPES = {"a": (4, 8), "b": (4, 8), "c": (4, 8), "stack": (8, 4, 8), "three": (3, 4, 8), "other": (8, 4)}
"""A stack that four devices share evenly, one that they do not, and a matrix of a shape of its own."""

PRODUCTS = 3
"""Products of matrices in an iteration."""


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def descent(**options):
    groups = options.pop("groups", ())
    return adamx.optimizer(Orthogonal(**options), 0.1, groups=groups)


@functools.cache
def separate(**options):
    """The weights after a step in which each leaf is by itself, eagerly."""
    opt, params, grads = descent(**options), drawn(0), drawn(1)
    alone = lambda name: ({name: grads[name]}, {name: params[name]})  # noqa: E731
    return {name: stepped(opt)(*alone(name))[name] for name in SHAPES}


def stepped(opt):
    """The weights after a first step."""
    return lambda grads, params: opt.step(grads, opt.init(params), params)[0]


def assert_alike(got, wanted):
    """Within some tens of roundings: each matrix goes through fifteen products."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, wanted)


def batches(opt, platform="tpu", names=tuple(SHAPES)):
    """How many matrices each product of the first iteration is of, in a program for one device."""
    params = {name: drawn(0)[name] for name in names}
    lowered = jax.jit(stepped(opt)).trace(params, params).lower(lowering_platforms=(platform,))
    shapes = re.findall(r"dot_general .*-> tensor<([x0-9]+)xf32>", lowered.as_text())[::PRODUCTS]
    return sorted(math.prod(map(int, shape.split("x")[:-2])) for shape in shapes)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_equal_matrices_of_all_leaves_are_one_batch_on_accelerators(platform):
    assert batches(descent(steps=1), platform) == [1, 3, 3, 8]


def test_leaves_of_different_groups_join_unless_they_differ_in_what_they_share():
    of = lambda **own: batches(descent(steps=1, groups=[adamx.Group("a", **own)]), names="abc")  # noqa: E731
    assert of(learning_rate=0.2) == of(b1=0.5) == [3]
    assert of(eps=0.5) == [1, 2]


def test_large_stacks_are_taken_in_turns(monkeypatch):
    monkeypatch.setattr("adamx.kernels.xla.together.MOST", 2 * 4 * 8)
    assert max(batches(descent(steps=1))) == 2


def exported(step):
    """The program for another process, which has no branch of CPUs."""
    from jax import export

    return lambda *arguments: export.export(jax.jit(step))(*arguments).call(*arguments)


def test_together_is_separately_and_what_is_not_finite_stays_in_its_leaf():
    step, params, grads = exported(stepped(descent())), drawn(0), drawn(1)
    assert_alike(step(grads, params), separate())
    grads["b"][0, 0], grads["stack"][2, 0, 0] = np.nan, np.inf
    broken = {name: ~np.isfinite(np.asarray(x)) for name, x in step(grads, params).items()}
    assert broken["b"].all()
    assert broken["stack"][2].all()
    assert sum(x.sum() for x in broken.values()) == 2 * 4 * 8


LAYOUTS = {
    "first": ((4,), lambda rank: P(*[None] * (rank - 2), "x")),
    "both": ((2, 2), lambda rank: P(*[None] * (rank - 2), "x", "y")),
    "twice": ((2, 2), lambda rank: P(*[None] * (rank - 2), ("x", "y"))),
    "whole": ((4,), lambda rank: P()),
}
"""The mesh, and how a leaf of some rank is cut."""
MOVES = {
    "first": {"all-to-all": 6, "all-gather": 1},
    "both": {"all-to-all": 12, "all-gather": 2},
    "twice": {"all-to-all": 12, "all-gather": 1},
    "whole": {"all-gather": 3},
}
"""What moves for three kinds, there and back for each axis of the mesh, and for the matrix of a shape of its own."""
CASES = [
    ("first", AxisType.Auto),
    ("both", AxisType.Auto),
    ("whole", AxisType.Auto),
    ("twice", AxisType.Explicit),
    ("first", AxisType.Explicit),
]


def placed(layout, kind, seed):
    shape, spec = LAYOUTS[layout]
    mesh = jax.make_mesh(shape, ("x", "y")[: len(shape)], axis_types=(kind,) * len(shape))
    return {name: jax.device_put(x, NamedSharding(mesh, spec(x.ndim))) for name, x in drawn(seed).items()}


def on_devices(opt, layout, kind):
    """What moves in a step, and its result."""
    grads, params = placed(layout, kind, 1), placed(layout, kind, 0)
    out = jax.tree.map(lambda x: x.sharding, params)
    program = jax.jit(stepped(opt), out_shardings=out).lower(grads, params).compile()
    return collectives(program.as_text()), program(grads, params)


@pytest.mark.parametrize(("layout", "kind"), CASES)
def test_on_several_devices_matrices_move_there_and_back_whatever_is_done_to_them(layout, kind):
    found, got = on_devices(descent(), layout, kind)
    assert found == MOVES[layout]
    assert_alike(got, separate())


def test_sums_of_what_is_made_together_share_an_all_reduce_with_others():
    found, got = on_devices(descent(summed=True), "first", AxisType.Auto)
    assert found == {**MOVES["first"], "all-reduce": 1}
    assert_alike(got, separate(summed=True))


def test_layers_that_are_cut_by_layer_stay_where_they_are():
    grads, params = ({"layers": x[:, None] * drawn(2)["other"]} for x in (np.ones((8, 1)), np.eye(8)[:, :1] + 1))
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    cut = [jax.device_put(np.float32(x["layers"]), NamedSharding(mesh, P("x"))) for x in (grads, params)]
    program = jax.jit(stepped(descent()), out_shardings=cut[0].sharding).lower(*cut).compile()
    assert not collectives(program.as_text())


@pytest.mark.parametrize("kind", [None, AxisType.Explicit])
def test_steps_together_have_derivatives(kind):
    wave = lambda step: lambda g, p: sum(jnp.sum(jnp.sin(x)) for x in step(g, p).values())  # noqa: E731
    step = stepped(descent(steps=1))
    alone = lambda g, p: {name: step({name: g[name]}, {name: p[name]})[name] for name in p}  # noqa: E731
    of_two = lambda tree: {name: tree[name] for name in "ab"}  # noqa: E731
    grads, params = (of_two(drawn(seed) if kind is None else placed("first", kind, seed)) for seed in (1, 0))
    wanted = jax.grad(wave(alone))(*map(of_two, (drawn(1), drawn(0))))
    assert_alike(jax.jit(jax.grad(wave(step)))(grads, params), wanted)


def test_steps_together_are_mapped_and_looped_over():
    grads, params = drawn(1), drawn(0)
    two = lambda x: jax.tree.map(lambda x: np.stack([x, 2 * x]), x)  # noqa: E731
    step = lambda eps: lambda g, p: stepped(descent(eps=eps))(g, p)  # noqa: E731
    with jax.checking_leaks():
        got = exported(jax.vmap(lambda g, p, eps: step(eps)(g, p)))(two(grads), two(params), np.full(2, 1e-7, "f"))
    assert_alike(jax.tree.map(lambda x: x[0], got), separate())
    carry = exported(lambda g, p: jax.lax.scan(lambda p, _: (stepped(descent())(g, p), None), p, length=1)[0])
    assert_alike(carry(grads, jax.tree.map(jnp.asarray, params)), separate())


def test_eager_steps_on_explicit_meshes_take_whole_matrices():
    name = "a"
    grads, params = ({name: placed("first", AxisType.Explicit, seed)[name]} for seed in (1, 0))
    assert_alike(stepped(descent())(grads, params), {name: separate()[name]})


def test_a_part_of_a_matrix_is_refused():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    opt = descent()
    step = lambda g: opt.step(g, opt.init(g), g, axis_name="x")[0]  # noqa: E731
    with pytest.raises(
        ValueError, match=r"x: this rule takes the whole of a leaf of which .* a part of shape \(1, 8\)"
    ):
        jax.eval_shape(jax.shard_map(step, mesh=mesh, in_specs=P("x"), out_specs=P("x")), drawn(0)["a"])
    whole = jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=P())
    assert jax.eval_shape(whole, drawn(0)["a"]).shape == (4, 8)
