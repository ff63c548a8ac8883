"""Lowered for a GPU or a TPU, XLA's step of coded slots is two passes over stored arrays, with the results of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx import _leaves
from adamx._leaf import Step
from adamx.kernels.xla.two_passes import ACCELERATORS, TwoPasses, has_two_passes
from tests.helpers import some

pytestmark = pytest.mark.usefixtures("one_device")

BARRIER = "stablehlo.optimization_barrier"
CASES = [
    *(("adamw", (64, 64), "nearest"), ("adamw", (2, 3, 1024), "nearest"), ("adamw", (16, 384), "split8")),
    *(("lion", (33, 128), "nearest"), ("ademamix", (4096,), "nearest")),
]


def params_of(shape, dtype=jnp.float32):
    return {"w": jax.random.normal(jax.random.key(0), shape).astype(dtype)}


def step_of(opt, grads, state, params) -> Step:
    (step,) = opt.engine.prepare(_leaves.flatten(grads, "grads"), state, params).steps
    assert step is not None
    return step


@pytest.mark.parametrize(
    ("name", "shape", "weights", "take"),
    some(
        [(*case, take) for case in CASES for take in (Step.apply, Step.update)],
        lambda name, shape, weights, take: take is Step.apply or weights == "split8",
    ),
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_two_passes_have_the_results_of_one(name, shape, weights, take):
    opt = getattr(adamx, name)(1e-2, moments="int8", weights=weights)
    params = params_of(shape, jnp.float32 if weights == "nearest" else jnp.bfloat16)
    run = jax.jit(lambda how, *given: how(step_of(opt, *given), None), static_argnums=0)
    state, step, both = opt.init(params), jax.jit(opt.step), (take, TwoPasses(take))
    for t in range(3):
        noise, size = (jax.random.normal(jax.random.key(2 * t + i), shape) for i in (1, 2))
        grads = {"w": (noise * jnp.exp(3 * size)).astype(params["w"].dtype)}
        one, two = (run(how, grads, state, params) for how in both)
        assert jax.tree.structure(one) == jax.tree.structure(two)
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert (x.dtype, x.shape) == (y.dtype, y.shape)
            if x.dtype == jnp.float32:
                np.testing.assert_allclose(x, y, rtol=3e-7, atol=1e-8)  # XLA may round a product and a sum in one
            else:
                off = np.abs(np.asarray(x, np.float32) - np.asarray(y, np.float32))
                assert np.mean(off > 0) <= 1e-3  # a number between two codes, rounded otherwise
        params, state = step(grads, state, params)


@pytest.mark.parametrize("method", ["step", "update"])
def test_only_accelerators_make_two_passes(method):
    opt, params = adamx.adamw(1e-2, moments="int8", kernel="xla"), params_of((64, 256))
    traced = jax.jit(getattr(opt, method)).trace(params, opt.init(params), params)
    for platform in ACCELERATORS:
        assert traced.lower(lowering_platforms=(platform,)).as_text().count(BARRIER) == 1
    assert BARRIER not in traced.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize(
    ("name", "moments", "shape"),
    [("adamw", "bfloat16", (64, 256)), ("adam_mini", "int8", (64, 256)), ("adamw", "int8", (64, 200))],
)
def test_one_pass_where_two_have_no_use_or_elements_depend_on_others(name, moments, shape):
    opt, params = getattr(adamx, name)(1e-2, moments=moments, kernel="xla"), params_of(shape)
    assert not has_two_passes(step_of(opt, params, opt.init(params), params))


def test_leaves_with_and_without_codes_step_in_one_program():
    opt = adamx.adamw(1e-2, moments="int8", kernel="xla")
    params = {"a": None, "b": jnp.ones(7), "c": jnp.ones((64, 128)), "d": jnp.full((64, 128), 2.0)}
    grads = jax.tree.map(lambda p: 0.5 * p, params)
    state = opt.init(params)
    for method in (opt.step, opt.update):
        eager, jitted = method(grads, state, params), jax.jit(method)(grads, state, params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=3e-7, atol=1e-8), eager, jitted)
