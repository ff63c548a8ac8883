"""RAdam (arXiv:1908.03265), its variance rectification computed without cancellation."""

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, Scalar, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, adam_ratio, bias_correction, debias, ema, eps_beside_hat, log_beta, nesterov_mean
from .._rule import Moments, Rule, Slot, StepContext, static
from ..estimates import MomentEstimates


class RAdam(Rule[Moments]):
    r"""Adam whose first steps wait until the second moment has seen enough gradients.

    $$\rho_\infty = \frac{2}{1-\beta_2} - 1 \qquad \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1-\beta_2^t} \qquad
      r_t^2 = \frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}$$

    $u_t = r_t \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$ if $\rho_t$ reaches the threshold, else
    $\hat m_t$ or 0.

    Attributes:
        b1: decay rate of the mean.
        b2: decay rate of the mean square.
        eps: added to the root, in units of the gradient.
        eps_root: added inside the root, in units of the squared gradient.
        threshold: the length $\rho_t$ of the average from which on steps are rectified.
        nesterov: look one step ahead with the mean, as `Adam` does.
        unrectified: before that, "sgd" steps by $\hat m_t$ (PyTorch, Optax); "skip" does not step (the official code).
        eps_hat: read `eps` as ε̂, constant beside the uncorrected root (the official code, PyTorch).

    Reference: Liu et al., arXiv:1908.03265, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    threshold: NonNegative = 5.0
    nesterov: bool = static(default=False)
    unrectified: str = static(default="sgd", choices=("sgd", "skip"))
    eps_hat: bool = static(default=False)
    elementwise = True
    eps_place = property(lambda self: "√v + ε̂" if self.eps_hat else "√v̂ + ε")
    corrected_averages = "m, v, variance"
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleByAdamState.mu", "ScaleByAdamState.nu")
    torch_slots = ("exp_avg", "exp_avg_sq")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        m_hat = debias(mu, self.b1, at.t)
        if self.nesterov:
            m_hat = nesterov_mean(mu, g, self.b1, at.t)
        rho, rho_inf = sma_length(self.b2, at.t), 2 / (1 - self.b2) - 1
        rectified = (rho >= self.threshold) & (rho > 4)
        known = jnp.where(rectified, rho, 5.0)
        r = jnp.sqrt((known - 4) / (rho_inf - 4) * ((known - 2) / (rho_inf - 2)) * (rho_inf / known))
        adapted = r * adam_ratio(m_hat, debias(nu, self.b2, at.t), self._eps(at.t), self.eps_root)
        plain = m_hat if self.unrectified == "sgd" else 0 * m_hat
        return jnp.where(rectified, adapted, plain), Moments(mu, nu)

    def moment_estimates(self, t: Array) -> MomentEstimates:
        return MomentEstimates(
            bias_correction(self.b1, t), bias_correction(self.b2, t), self._eps(t), (self.b1, self.b2)
        )

    def _eps(self, t: Array) -> Scalar:
        return eps_beside_hat(self.eps, self.b2, t) if self.eps_hat else self.eps


def sma_length(b2: Scalar, t: Array) -> Array:
    r"""$\rho_t$, the length of the moving average as long as the exponential one of decay rate `b2` at step `t`.

    As printed it is a difference of numbers near $2/(1-\beta_2)$: in float32, with b2=.9999, it says 10^4 times too
    much at t=2. With $x = -\log\beta_2$ it is $t - \frac2x(\psi(tx) - \psi(x))$, $\psi(y) = \frac y2\coth\frac y2 - 1$,
    whose terms are all small.
    """
    x = -jnp.asarray(log_beta(b2), t.dtype)
    return t - 2 / x * (_psi(t * x) - _psi(x))


def _psi(y: Array) -> Array:
    near = jnp.square(jnp.minimum(y, 1.0))
    series = jnp.zeros_like(near)
    for bernoulli in (1 / 74724249600, -691 / 1307674368000, 1 / 47900160, -1 / 1209600, 1 / 30240, -1 / 720, 1 / 12):
        series = (series + bernoulli) * near
    far = jnp.maximum(y, 0.5)
    return jnp.where(y < 0.5, series, far / 2 / jnp.tanh(far / 2) - 1)


@named(RAdam)
def radam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = RAdam.b1,
    b2: ScalarOrSchedule = RAdam.b2,
    eps: ScalarOrSchedule = RAdam.eps,
    eps_root: ScalarOrSchedule = RAdam.eps_root,
    threshold: ScalarOrSchedule = RAdam.threshold,
    *,
    nesterov: bool = RAdam.nesterov,
    unrectified: str = RAdam.unrectified,
    eps_hat: bool = RAdam.eps_hat,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """RAdam (arXiv:1908.03265): Adam whose first steps wait until the second moment has seen enough gradients.

    Hyperparameters are those of `adamx.RAdam`; the rest is described by `adamx.optimizer`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.radam(0.25)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.5], dtype=float32)
    """
    rule = RAdam(b1, b2, eps, eps_root, threshold, nesterov, unrectified, eps_hat)
    return optimizer(rule, learning_rate, **common(moments, weights, seed, kernel, groups))


@described(RAdam, scale_by)
def scale_by_radam(
    b1: ScalarOrSchedule = RAdam.b1,
    b2: ScalarOrSchedule = RAdam.b2,
    eps: ScalarOrSchedule = RAdam.eps,
    eps_root: ScalarOrSchedule = RAdam.eps_root,
    threshold: ScalarOrSchedule = RAdam.threshold,
    *,
    nesterov: bool = RAdam.nesterov,
    unrectified: str = RAdam.unrectified,
    eps_hat: bool = RAdam.eps_hat,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """RAdam's direction, without step size and sign; see `adamx.RAdam`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_radam()
        >>> grads = jnp.array([3.0, -0.25])
        >>> tx.update(grads, tx.init(grads))[0].round(4)  # the mean alone at first
        Array([ 3.  , -0.25], dtype=float32)
    """
    return scale_by(RAdam(b1, b2, eps, eps_root, threshold, nesterov, unrectified, eps_hat), moments=moments, seed=seed)
