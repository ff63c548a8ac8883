"""On GPUs a step is written over its donated inputs whether the state or the parameters come first."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx.kernels.xla.donation import GPUS, _Choice

pytestmark = pytest.mark.usefixtures("one_device")

WHOLE_LEAF_CHOICE = r"stablehlo.select %\w+, %\w+, %\w+ : tensor<i1>, tensor<64x128x(f32|bf16)>"


@pytest.mark.parametrize(
    ("name", "moments", "weights", "slots"),
    [
        ("adamw", "float32", "nearest", 2),  # the parameter lands on mu, mu on nu, nu on the parameter
        ("amsgrad", "float32", "nearest", 3),
        ("adamw", "bfloat16", "nearest", 0),  # no slot is stored as the parameter is
        ("adamw", "bfloat16", "kahan", 2),  # mu and the residual are
        ("adamw", "int8", "split8", 0),
    ],
)
def test_each_slot_depends_on_what_it_may_be_written_over(name, moments, weights, slots):
    opt = getattr(adamx, name)(1e-2, moments=moments, weights=weights, kernel="xla")
    params = {"w": jnp.ones((64, 128), "float32" if weights == "nearest" else "bfloat16")}
    traced = jax.jit(opt.step).trace(params, opt.init(params), params)
    for platform in (*GPUS, "tpu", "cpu"):
        found = re.findall(WHOLE_LEAF_CHOICE, traced.lower(lowering_platforms=(platform,)).as_text())
        assert len(found) == (slots if platform in GPUS else 0)


def test_the_choice_is_the_new_slot():
    new, old = jnp.array([1.0, jnp.nan]), jnp.array([jnp.nan, 2.0])
    (chosen,) = _Choice(1)(new, old, jnp.int32(1))
    np.testing.assert_array_equal(chosen, new)
