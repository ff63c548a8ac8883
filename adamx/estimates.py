"""How diagnostics read a rule's slots as the bias-corrected moment estimates of Adam."""

from typing import NamedTuple

from ._annotations import Scalar


class MomentEstimates(NamedTuple):
    r"""How a rule's slots give $\hat m$ and $\sqrt{\hat v}$ after a step: what diagnostics report of it.

    Attributes:
        mean_correction: $m$ divided by this is $\hat m$: $1-\beta_1^t$ for Adam, 1 without bias correction.
        square_correction: $v$ divided by this is $\hat v$.
        eps: the ε that the step adds to $\sqrt{\hat v}$; `None` if it adds none there.
        decay_rates: $(\beta_1, \beta_2)$ if the step follows $\hat m/\sqrt{\hat v}$ of plain averages of $g$ and
            $g^2$, both corrected, so that `theory.update_bound` holds; `None` if that is unknown.
        mean: name of the slot that keeps $m$.
        square: name of the slot that keeps the $v$ that the step divides by.
        is_root: whether that slot keeps $\sqrt v$ instead, of which `square_correction` is then the divisor.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> estimates = adamx.Adam(b1=0.5).moment_estimates(jnp.array(1.0))
        >>> float(estimates.mean_correction), estimates.eps
        (0.5, 1e-08)
    """

    mean_correction: Scalar = 1.0
    square_correction: Scalar = 1.0
    eps: Scalar | None = None
    decay_rates: tuple[Scalar, Scalar] | None = None
    mean: str = "mu"
    square: str = "nu"
    is_root: bool = False
