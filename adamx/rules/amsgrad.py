"""AMSGrad (arXiv:1904.09237, Algorithm 2), in its three published forms."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, Scalar, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, adam_ratio, bias_correction, biased, debias, ema, eps_beside_hat
from .._rule import Rule, Slot, StepContext, static
from ..estimates import MomentEstimates
from ..idle import IdleSteps


class MaxMoments(NamedTuple):
    """The two moments, and the largest second moment so far."""

    mu: Any
    nu: Any
    nu_max: Any


class AMSGrad(Rule[MaxMoments]):
    r"""Adam whose second moment never shrinks, so that no step size grows again.

    $$v^{\max}_t = \max(v^{\max}_{t-1}, v_t) \qquad
      u_t = \hat m_t / (\sqrt{\hat v^{\max}_t + \bar\varepsilon} + \varepsilon)$$

    The three forms: the paper's corrects nothing (`bias_correction_mu=bias_correction_nu=False`); Optax's takes the
    maximum of the *corrected* moment (the default here, too), which keeps the spike of the first steps; PyTorch's
    takes it of the raw moment and corrects afterwards (`max_of="raw"`).

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root, in units of the squared gradient.
        bias_correction_mu: whether the mean is corrected.
        bias_correction_nu: whether the second moment is corrected.
        max_of: "corrected" or "raw": of which second moment the maximum is kept.
        eps_hat: read `eps` as the paper's ε̂, constant beside the uncorrected root (Keras).

    Reference: Reddi, Kale & Kumar, arXiv:1904.09237, Algorithm 2 (no correction, no eps).
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    bias_correction_mu: bool = static(default=True)
    bias_correction_nu: bool = static(default=True)
    max_of: str = static(default="corrected", choices=("corrected", "raw"))
    eps_hat: bool = static(default=False)
    elementwise = True
    slots = MaxMoments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True), nu_max=Slot(nonnegative=True))
    optax_slots = property(lambda self: self._kept("corrected", "mu", "nu", "nu_max", state="ScaleByAmsgradState."))
    torch_slots = property(lambda self: self._kept("raw", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"))

    def step(self, g: Array, s: MaxMoments, at: StepContext) -> tuple[Array, MaxMoments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        m_hat = (debias if self.bias_correction_mu else biased)(mu, self.b1, at.t)
        hat = debias if self.bias_correction_nu else biased
        if self.max_of == "raw":
            nu_max = jnp.maximum(s.nu_max, nu)
            v_hat = hat(nu_max, self.b2, at.t)
        else:
            v_hat = nu_max = jnp.maximum(s.nu_max, hat(nu, self.b2, at.t))
        return adam_ratio(m_hat, v_hat, self._eps(at.t), self.eps_root), MaxMoments(mu, nu, nu_max)

    def idle(self, s: MaxMoments, at: IdleSteps) -> tuple[Array, MaxMoments]:
        b1, b2 = at.rate("b1", self.b1), at.rate("b2", self.b2)
        eps_root, _ = at.number("eps_root", self.eps_root), at.number("eps", self.eps)
        corrected = self.max_of == "raw" and self.bias_correction_nu

        def element(j: Array, t: Array) -> Array:
            return adam_ratio(s.mu, s.nu_max / at.correction(b2, j) if corrected else s.nu_max, self._eps(t), eps_root)

        def term(j: Array, t: Array) -> Array:
            return at.power(b1, j) / (at.correction(b1, j) if self.bias_correction_mu else 1.0)

        total = at.sum_beside_root(element, term, b1, b2, decaying=False)
        return total, MaxMoments(s.mu * at.power(b1), s.nu * at.power(b2), s.nu_max)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        mean = bias_correction(self.b1, t) if self.bias_correction_mu else 1.0
        raw = self.bias_correction_nu and self.max_of == "raw"
        return MomentEstimates(mean, bias_correction(self.b2, t) if raw else 1.0, self._eps(t), square="nu_max")

    def _eps_place(self) -> str:
        if self.eps_hat:
            return "√v + ε̂"
        return "√v̂ + ε" if self.bias_correction_nu else "√v + ε"

    eps_place = property(_eps_place)

    def _corrected_averages(self) -> str:
        mean = ["m"] if self.bias_correction_mu else []
        square = ["v after max v" if self.max_of == "raw" else "v before max v̂"] if self.bias_correction_nu else []
        return ", ".join(mean + square) or "none"

    corrected_averages = property(_corrected_averages)

    def _kept(self, max_of: str, *names: str, state: str = "") -> tuple[str, ...] | None:
        """What a library keeps that takes the maximum of this moment; uncorrected they are the same."""
        same = self.max_of == max_of or not self.bias_correction_nu
        return tuple(state + name for name in names) if same else None

    def _eps(self, t: Array) -> Scalar:
        return eps_beside_hat(self.eps, self.b2, t) if self.eps_hat else self.eps


@named(AMSGrad)
def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = AMSGrad.b1,
    b2: ScalarOrSchedule = AMSGrad.b2,
    eps: ScalarOrSchedule = AMSGrad.eps,
    eps_root: ScalarOrSchedule = AMSGrad.eps_root,
    mu_dtype: Any = None,
    bias_correction_mu: bool = AMSGrad.bias_correction_mu,
    bias_correction_nu: bool = AMSGrad.bias_correction_nu,
    *,
    max_of: str = AMSGrad.max_of,
    eps_hat: bool = AMSGrad.eps_hat,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """AMSGrad (arXiv:1904.09237): Adam whose second moment never shrinks, in its three forms.

    Hyperparameters are those of `adamx.AMSGrad`, which describes the forms; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.amsgrad(learning_rate=0.5, max_of="raw")
        >>> params = jnp.array([1.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([0.5], dtype=float32)
    """
    rule = AMSGrad(b1, b2, eps, eps_root, bias_correction_mu, bias_correction_nu, max_of, eps_hat)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **common(moments, weights, seed, kernel, groups))


@described(AMSGrad, scale_by)
def scale_by_amsgrad(
    b1: ScalarOrSchedule = AMSGrad.b1,
    b2: ScalarOrSchedule = AMSGrad.b2,
    eps: ScalarOrSchedule = AMSGrad.eps,
    eps_root: ScalarOrSchedule = AMSGrad.eps_root,
    mu_dtype: Any = None,
    bias_correction_mu: bool = AMSGrad.bias_correction_mu,
    bias_correction_nu: bool = AMSGrad.bias_correction_nu,
    *,
    max_of: str = AMSGrad.max_of,
    eps_hat: bool = AMSGrad.eps_hat,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """AMSGrad's direction, without step size and sign; see `adamx.AMSGrad`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_amsgrad(b1=0.0)
        >>> state = tx.init(jnp.zeros(1))
        >>> for g in (4.0, 1.0):  # the second step is still in units of the first gradient
        ...     direction, state = tx.update(jnp.array([g]), state)
        >>> direction.round(4)
        Array([0.25], dtype=float32)
    """
    return scale_by(
        AMSGrad(b1, b2, eps, eps_root, bias_correction_mu, bias_correction_nu, max_of, eps_hat),
        mu_dtype=mu_dtype,
        moments=moments,
        seed=seed,
    )
