"""The variational autoencoder of the Adam paper's section 6.4, in Flax NNX."""

import jax
import jax.numpy as jnp
from flax import nnx


class VAE(nnx.Module):
    """One hidden layer of softplus units each way around a Gaussian latent; pixels are Bernoulli.

    Args:
        pixels: of one flattened image.
        hidden: units of each hidden layer.
        latent: dimensions of the latent.
        rngs: random streams; `params` draws the initial weights.

    Reference: Kingma & Welling, arXiv:1312.6114, appendix C.1; softplus, 500 and 50 as in Kingma & Ba,
    arXiv:1412.6980, section 6.4.
    """

    def __init__(self, pixels: int, hidden: int = 500, latent: int = 50, *, rngs: nnx.Rngs):
        self.latent = latent
        self.encoder = nnx.Linear(pixels, hidden, rngs=rngs)
        self.posterior = nnx.Linear(hidden, 2 * latent, rngs=rngs)
        self.decoder = nnx.Linear(latent, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, pixels, rngs=rngs)

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance, each `(n, latent)`, of the latent of images `(n, pixels)`."""
        mean, log_variance = jnp.split(self.posterior(nnx.softplus(self.encoder(images))), 2, axis=-1)
        return mean, log_variance

    def decode(self, latents: jax.Array) -> jax.Array:
        """Logits `(n, pixels)` of latents `(n, latent)`."""
        return self.output(nnx.softplus(self.decoder(latents)))


def negative_elbo(model: VAE, images: jax.Array, noise: jax.Array) -> jax.Array:
    r"""The negative evidence lower bound, in nats per image, averaged over the images.

    $$-\log p(x \mid z) + \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2), \qquad z = \mu + \sigma\,\xi$$

    Args:
        model: the autoencoder.
        images: `(n, pixels)` in [0, 1]; grey is a probability of white.
        noise: $\xi$, standard normal `(n, latent)`.

    Reference: Kingma & Welling, arXiv:1312.6114, equation 10, with one sample.

    >>> import jax.numpy as jnp
    >>> model = VAE(6, hidden=4, latent=2, rngs=nnx.Rngs(0))
    >>> negative_elbo(model, jnp.full((3, 6), 0.5), jnp.zeros((3, 2))).shape
    ()
    """
    mean, log_variance = model.encode(images)
    logits = model.decode(mean + jnp.exp(log_variance / 2) * noise)
    reconstruction = jnp.sum(nnx.softplus(logits) - images * logits, axis=-1)
    divergence = jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=-1) / 2
    return jnp.mean(reconstruction + divergence)
