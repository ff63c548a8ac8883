"""Tensor parallel in Linen: the hidden layer is cut over one axis of the mesh, the batch over the other.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python docs/scaling/tensor_parallel.py
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
import adamx.flax

mesh = jax.make_mesh((jax.device_count() // 4, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
rules = (("embed", None), ("hidden", "model"))
init = nn.initializers.lecun_normal()
model = nn.Sequential(
    [
        nn.Dense(1024, use_bias=False, kernel_init=nn.with_logical_partitioning(init, ("embed", "hidden"))),
        nn.relu,
        nn.Dense(256, use_bias=False, kernel_init=nn.with_logical_partitioning(init, ("hidden", "embed"))),
    ]
)
tx = adamx.adamw(3e-3, moments="int8")  # in groups of 128 of the last axis: a device has two of the 1024 hidden units
x = jax.device_put(jax.random.normal(jax.random.key(0), (256, 256)), NamedSharding(mesh, P("data")))


def create(key):
    """Weights and state; each array of the state has the names of its own axes."""
    return adamx.flax.TrainState.create(apply_fn=model.apply, params=model.init(key, x)["params"], tx=tx)


names = nn.get_partition_spec(jax.eval_shape(create, jax.random.key(0)))
shardings = nn.logical_to_mesh_sharding(names, mesh, rules)


@functools.partial(jax.jit, donate_argnums=0, out_shardings=(shardings, None))
def train_step(state, x, y):
    """The next state, and the loss before."""

    def loss_of(params):
        return jnp.mean((model.apply({"params": params}, x) - y) ** 2)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=grads), loss


state, losses = jax.jit(create, out_shardings=shardings)(jax.random.key(0)), []
for _ in range(20):
    state, loss = train_step(state, x, jnp.sin(3 * x))
    losses.append(float(loss))

arrays = jax.tree.leaves(state)
held = sum(x.addressable_shards[0].data.nbytes for x in arrays)
print(f"{held:,} bytes a device, of {sum(x.nbytes for x in arrays):,} of weights and state")
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
