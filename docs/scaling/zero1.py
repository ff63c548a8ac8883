"""ZeRO-1 in plain JAX: data parallel with whole weights on every device, each of which keeps a part of their state.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python docs/scaling/zero1.py
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx

mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
everywhere, cut = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))


init = jax.nn.initializers.lecun_normal(dtype=jnp.bfloat16)
params = {"up": init(jax.random.key(1), (256, 1024)), "down": init(jax.random.key(2), (1024, 256))}
params = jax.device_put(params, everywhere)
x = jax.device_put(jax.random.normal(jax.random.key(0), (256, 256)), cut)

opt = adamx.adamw(3e-3, moments="int8", weights="split8")
shardings = adamx.state_shardings(opt, params, zero="data")
state = jax.jit(opt.init, out_shardings=shardings)(params)


@functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=(everywhere, shardings, None))
def train_step(params, state, x, y):
    """The next weights and state, and the loss before: each device steps its part, then the weights are gathered."""

    def loss_of(params):
        return jnp.mean((jax.nn.relu(x @ params["up"]) @ params["down"] - y) ** 2)

    loss, grads = jax.value_and_grad(loss_of)(params)
    return *opt.step(grads, state, params), loss


losses = []
for _ in range(20):
    params, state, loss = train_step(params, state, x, jnp.sin(3 * x))
    losses.append(float(loss))

for name, tree in (("weights", params), ("state", state)):
    arrays = jax.tree.leaves(tree)
    held = sum(x.addressable_shards[0].data.nbytes for x in arrays)
    print(f"{held:,} bytes a device, of {sum(x.nbytes for x in arrays):,} of {name}")
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
