"""The C++ kernel steps a part of a leaf as it is stepped in the whole leaf, along whichever axes it is cut."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx import _leaves
from adamx._noise import Part
from adamx.kernels import cpu
from adamx.kernels.operands import Applied, pack, unpack
from tests.helpers import needs_native

pytestmark = [needs_native, pytest.mark.usefixtures("one_device")]
SHAPE = (4, 6, 384)
SIZES = {"rows": (2, 6, 384), "middle": (4, 2, 384), "columns": (4, 6, 128), "all axes": (2, 3, 128)}
THIN = {"short runs": (4, 6, 24), "single columns": (2, 3, 1), "one element": (1, 1, 1)}


def parts_of(step, size):
    """Of the first, the second and the last part of this size: its step, and what it has of an array of the leaf."""
    shape = step.leaf.g.shape
    corners = list(itertools.product(*(range(0, n, length) for n, length in zip(shape, size, strict=True))))
    for corner in (corners[0], corners[1], corners[-1]):

        def cut(x, corner=corner):
            group = -(-shape[-1] // x.shape[-1])  # of a code, along the last axis
            ends = [(start, start + length) for start, length in zip(corner, size, strict=True)]
            ends[-1] = (ends[-1][0] // group, -(-ends[-1][1] // group))
            return np.asarray(x)[tuple(slice(*each) for each in ends)]

        arrays = {name: jax.tree.map(cut, getattr(step.leaf, name)) for name in ("g", "p", "stored", "residual")}
        noise = step.noise._replace(part=Part.at(corner, shape))
        yield dataclasses.replace(step, leaf=step.leaf._replace(**arrays), noise=noise), cut


def check_parts(opt, sizes, dtype=jnp.bfloat16):
    """A step of a leaf beside those of its parts, all in one program, bit for bit."""
    rng = np.random.default_rng(0)
    params, grads = (jnp.asarray(rng.standard_normal(SHAPE), dtype) for _ in range(2))
    state = opt.step(grads, opt.init(params), params)[1]
    (whole,) = opt.engine.prepare(_leaves.flatten(grads, "grads"), state, params).steps
    parts, cuts = zip(*(each for size in sizes for each in parts_of(whole, size)), strict=True)
    packed, operands, structure = pack([whole, *parts], None)
    step = jax.jit(Applied((cpu.BACKEND,) * (1 + len(parts)), packed).__call__)
    wanted, *results = unpack(structure, jax.device_get(step(*operands)))
    for result, cut in zip(results, cuts, strict=True):
        jax.tree.map(lambda x, y, cut=cut: np.testing.assert_array_equal(x, cut(y)), result, wanted)


@pytest.mark.parametrize("weights", ["stochastic", "kahan", "split8"])
def test_parts_draw_the_bits_of_the_whole_leaf(weights):
    opt = adamx.adamw(1e-2, moments="bfloat16", weights=weights, kernel="native")
    check_parts(opt, [*SIZES.values(), *THIN.values()])


def test_parts_of_whole_groups_have_the_codes_of_the_whole_leaf():
    check_parts(adamx.adamw(1e-2, moments="int8", weights="split8", kernel="native"), SIZES.values())
