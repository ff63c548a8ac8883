"""int8 by groups of other sizes than 128: the same code, and a type of its own that no other optimizer steps."""

import functools
import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._leaf import Step
from adamx.kernels.xla.two_passes import TwoPasses, has_two_passes
from adamx.moments import codes, is_code
from adamx.moments.int8 import Log, Ratio
from tests.helpers import needs_native
from tests.test_moments import there_and_back
from tests.test_two_passes import step_of

SMALL = [64, 32]
SHAPE = (16, 352)  # a ragged last group of every size
PARAMS = {"w": jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE), jnp.float32), "b": jnp.ones(3)}


@functools.cache
def make(group, kernel="xla"):
    return adamx.adam(1e-2, moments=adamx.Int8(group), kernel=kernel)


@functools.cache
def stepped(group):
    """The state after two steps."""
    opt, params = make(group), PARAMS
    state, step = opt.init(params), jax.jit(opt.step)
    for _ in range(2):
        params, state = step(params, state, params)
    return state


@pytest.mark.parametrize("group", SMALL)
@pytest.mark.parametrize("form", [Log, Ratio])
def test_a_group_is_coded_as_a_row_of_its_own_is(form, group):
    """Bit for bit: an axis of up to 128 is one group of the default size."""
    x = jnp.asarray(np.exp(3 * np.random.default_rng(0).standard_normal((8, 6 * group))), jnp.float32)
    got, wanted = there_and_back(form(group), x), there_and_back(form(), x.reshape(-1, group))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b.reshape(a.shape))


@pytest.mark.parametrize("group", [0, 48, 256, True, "64", 64.0, None])
def test_other_sizes_are_refused(group):
    with pytest.raises(ValueError, match=rf"group = {group!r} should be 128, 64 or 32"):
        adamx.Int8(group)


def test_a_size_is_one_word_wherever_formats_are_named():
    adam = functools.partial(adamx.adam, 1e-3)
    assert adam(moments=adamx.Int8()).engine.layout == adam(moments="int8").engine.layout
    mixed = adam(moments=("int8", adamx.Int8(32)))
    assert mixed.engine.layout == adam(moments={"mu": adamx.Int8(), "nu": "int8/32"}).engine.layout
    assert mixed.engine.layout == adam(moments=mixed.engine.layout.formats).engine.layout
    by_path = {leaf.path: leaf.formats for leaf in adamx.explain(mixed, PARAMS)}
    assert by_path["params['w']"] == {"mu": "int8", "nu": "int8/32"}
    rows, columns = SHAPE
    sizes = {"int8": rows * (columns + 3 * 2), "int8/32": rows * (columns + 11 * 2), "float32": 2 * 3 * 4}
    assert adamx.state_bytes(mixed, PARAMS).formats == sizes
    with pytest.raises(TypeError, match="should be one of float32"):
        adam(moments=adamx.Int8)


def test_slots_of_several_sizes_step_together():
    mixed = adamx.adam(1e-2, moments=("int8", adamx.Int8(32)))
    params, state = jax.jit(mixed.step)(PARAMS, mixed.init(PARAMS), PARAMS)
    assert [type(x) for x in (state.slots.mu["w"], state.slots.nu["w"])] == [codes.RatioCode, codes.LogCode32]
    np.testing.assert_allclose(params["w"], PARAMS["w"] - 0.01 * jnp.sign(PARAMS["w"]), atol=5e-4)
    assert not has_two_passes(step_of(mixed, PARAMS["w"], mixed.init(PARAMS["w"]), PARAMS["w"]))


@needs_native
def test_the_kernel_stores_the_codes_of_slots_of_several_sizes():
    mixed = [adamx.adam(1e-2, moments=("int8", adamx.Int8(32)), kernel=kernel) for kernel in ("xla", "native")]
    state = mixed[0].init(PARAMS)
    exact, ours = (jax.jit(opt.step)(PARAMS, state, PARAMS)[1].slots for opt in mixed)
    assert jax.tree.structure(exact) == jax.tree.structure(ours)
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(ours), strict=True):
        assert np.mean(a != b) <= 1e-3  # a number between two codes, rounded otherwise


@pytest.mark.usefixtures("one_device")
def test_two_passes_have_the_codes_of_one():
    opt, params = make(64), {"w": jax.random.normal(jax.random.key(0), (16, 256))}
    run = jax.jit(lambda how, *given: how(step_of(opt, *given), None), static_argnums=0)
    one, two = (run(how, params, opt.init(params), params) for how in (Step.apply, TwoPasses(Step.apply)))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float32), np.asarray(y, np.float32), rtol=3e-7, atol=1e-8)


def test_a_state_is_only_of_its_size():
    """Whole, and a part of a leaf that would not be coded by itself."""
    words = {128: "int8", 64: "int8/64", 32: "int8/32"}
    for made, own in ((128, 64), (64, 32), (32, 128)):
        both = rf"of {words[made]} \(groups of {made}\) in the state, .* {words[own]} \(groups of {own}\)"
        with pytest.raises(ValueError, match=rf"mu of grads\['w'\] is stored as \w+ {both}: .*adamx\.convert_state"):
            make(own).step(PARAMS, stepped(made), PARAMS)
        part = lambda tree: jax.tree.map(lambda x: x[:4] if x.ndim == 2 else x, tree)  # noqa: E731
        with pytest.raises(ValueError, match=both):
            make(own).step(part(PARAMS), part(stepped(made)), part(PARAMS))


def kept(state):
    return [type(x) for x in jax.tree.leaves(state, is_leaf=is_code) if is_code(x)]


@pytest.mark.parametrize("group", SMALL)
def test_a_pickled_state_keeps_its_size(group):
    state = stepped(group)
    again = pickle.loads(pickle.dumps(jax.tree.map(np.asarray, state)))
    assert kept(again) == kept(state) == [codes.RATIO_CODES[group], codes.LOG_CODES[group]]
    jax.eval_shape(make(group).step, PARAMS, again, PARAMS)


def by_flax(old, new):
    return flax.serialization.from_bytes(new, flax.serialization.to_bytes(old))


def by_leaves(old, new):
    return jax.tree.unflatten(jax.tree.structure(new), jax.tree.leaves(old))


@pytest.mark.parametrize("restore", [by_flax, by_leaves])
def test_restored_into_the_types_of_another_size_it_is_an_error_with_both_sizes_and_the_cure(restore):
    for made, own in ((128, 64), (64, 128), (32, 64)):
        mixed = restore(stepped(made), make(own).init(PARAMS))
        message = rf"mu of grads\['w'\] has .* groups of {made}, Ratio\w+ is of {own}; .*convert_state"
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(make(own).step, PARAMS, mixed, PARAMS)
