"""A state's shardings follow from those of the parameters."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx

pytestmark = pytest.mark.devices
MESH = jax.make_mesh((2, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
SHAPES = {"w": (64, 512), "b": (512,), "s": ()}
SPECS = {"w": P("x", "y"), "b": P("y"), "s": P()}


def params(**specs):
    """Shapes that are cut so."""
    of = {**SPECS, **specs}
    return {k: jax.ShapeDtypeStruct(SHAPES[k], jnp.float32, sharding=NamedSharding(MESH, of[k])) for k in SHAPES}


def test_slots_are_cut_as_their_weights_and_scales_as_their_codes():
    got = adamx.state_shardings(adamx.adam(1e-3, moments="int8"), params())
    assert {x.spec for x in got.slots.nu["w"]} == {P("x", "y")}
    assert (got.slots.mu["b"].spec, got.slots.nu["s"].spec, got.count.spec) == (P("y"), P(), P())


def test_axes_that_are_left_keep_their_cuts():
    got = adamx.state_shardings(adamx.adafactor(1e-3, min_dim_size_to_factor=2), params())
    assert (got.slots.nu.row["w"].spec, got.slots.nu.col["w"].spec) == (P("x"), P("y"))
    assert adamx.state_shardings(adamx.adam_mini(1e-3), params()).slots.nu["w"].spec == P(None, "y")
