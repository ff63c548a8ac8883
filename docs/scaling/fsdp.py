"""FSDP (ZeRO-3) in NNX: every device holds a part of each weight, of the weight's state, of the batch.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python docs/scaling/fsdp.py
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import adamx
import adamx.flax

jax.set_mesh(jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)))
kernel_init = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("data", None))


def along_batch(x):
    """Each device computes what follows from its inputs, with weights that it gathers."""
    return jax.lax.with_sharding_constraint(x, P("data"))


@nnx.jit  # no device ever holds a whole weight
def create():
    """A network in bfloat16; 2 bytes for the moments of a weight, 1 for what float32 would have beyond its 2."""
    layers = [
        nnx.Linear(*shape, use_bias=False, kernel_init=kernel_init, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(i))
        for i, shape in enumerate([(256, 1024), (1024, 256)])
    ]
    model = nnx.Sequential(layers[0], nnx.relu, along_batch, layers[1])
    tx = adamx.adamw(3e-3, moments="int8", weights="split8")
    return model, adamx.flax.Optimizer(model, tx, wrt=nnx.Param)  # its state is cut as the weights are


@nnx.jit(donate_argnums=(0, 1))
def train_step(model, optimizer, x, y):
    """Change model and optimizer in place; the loss before that."""
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


model, optimizer = create()
x = jax.device_put(jax.random.normal(jax.random.key(0), (256, 256)), P("data"))
losses = [float(train_step(model, optimizer, x, jnp.sin(3 * x))) for _ in range(20)]

arrays = jax.tree.leaves(nnx.state((model, optimizer)))
held = sum(x.addressable_shards[0].data.nbytes for x in arrays)
print(f"{held:,} bytes a device, of {sum(x.nbytes for x in arrays):,} of weights and state")
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
