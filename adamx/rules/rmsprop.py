"""RMSProp (Tieleman & Hinton 2012), plain, centred, with momentum, corrected for bias."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, Initial, NonNegative, ScalarOrSchedule
from .._factory import Groups, Kernel, MomentFormats, Optimizer, Weights, common, described, named, optimizer, scale_by
from .._math import abs_sq, biased, debias, div_no_nan, ema
from .._rule import Rule, Slot, StepContext, static
from ..idle import IdleSteps


class RMSMoments(NamedTuple):
    """The mean square (centred: the variance), the mean (`None` unless centred), the momentum (`None` unless asked)."""

    nu: Any
    mu: Any
    trace: Any


class RMSProp(Rule[RMSMoments]):
    r"""The gradient in units of its root mean square.

    $$v_t = \beta v_{t-1} + (1-\beta) g_t^2 \qquad u_t = g_t / \sqrt{v_t + \varepsilon}$$

    centred: $v_t - m_t^2$ in place of $v_t$, $m_t$ being the mean. With momentum $\mu$: $b_t = \mu b_{t-1} + u_t$ is
    the direction. Momentum acts on the *rescaled* gradient; Adam rescales the momentum.

    Attributes:
        decay: decay rate $\beta$ of the averages.
        eps: $\varepsilon$, in units of the squared gradient, or of the gradient if outside the root.
        initial_scale: $v_0$, in units of the squared gradient; 1 in TensorFlow 1.
        eps_in_sqrt: whether `eps` stands inside the root (Optax, Keras, TensorFlow) or is added to it (PyTorch).
        centered: whether the mean is subtracted.
        momentum: decay rate $\mu$ of a momentum; `None` for no momentum.
        nesterov: whether the momentum looks ahead, $u_t + \mu b_t$.
        bias_correction: whether the averages are corrected; then, with `eps` outside, it is Adam with b1=0. Not with
            `centered`: the corrected variance of the first gradient is 0, and the first step rounding over `eps`.
        step_size: $\alpha_t$ inside the momentum, $b_t = \mu b_{t-1} + \alpha_t u_t$, for a step size that changes:
            Optax, Keras and TensorFlow 1 gather steps where PyTorch gathers directions. Where it is given, it is the
            optimizer's `learning_rate` to groups, `step`, `hyperparameters`.

    Reference: Tieleman & Hinton, Coursera lecture 6.5, 2012; centred: Graves, arXiv:1308.0850.
    """

    decay: Beta = 0.9
    eps: NonNegative = 1e-8
    initial_scale: Initial = 0.0
    momentum: Beta | None = None
    eps_in_sqrt: bool = static(default=True)
    centered: bool = static(default=False)
    nesterov: bool = static(default=False)
    bias_correction: bool = static(default=False)
    step_size: NonNegative | None = None
    elementwise = True

    def _slots(self) -> RMSMoments:
        start = functools.partial(jnp.full_like, fill_value=self.initial_scale)
        absent = Slot(init=lambda p, dtype: None)
        return RMSMoments(
            nu=Slot(init=start, nonnegative=True),
            mu=Slot() if self.centered else absent,
            trace=Slot() if self.momentum is not None else absent,
        )

    slots = property(_slots)

    def step(self, g: Array, s: RMSMoments, at: StepContext) -> tuple[Array, RMSMoments]:
        hat = debias if self.bias_correction else biased
        if self.centered:
            # The average of (g - mean)^2 itself: mean square minus squared mean would cancel all digits of a small one.
            mu = ema(s.mu, g, self.decay)
            nu = self.decay * (s.nu + (1 - self.decay) * abs_sq(g - s.mu))
            weight = hat(jnp.ones_like(nu), self.decay, at.t)
            v_hat = jnp.maximum(weight * nu - weight * (weight - 1) * abs_sq(mu), 0)
        else:
            mu, nu = s.mu, ema(s.nu, abs_sq(g), self.decay)
            v_hat = hat(nu, self.decay, at.t)
        root = jnp.sqrt(v_hat + self.eps) if self.eps_in_sqrt else jnp.sqrt(v_hat) + self.eps
        u, trace = div_no_nan(g, root), s.trace
        if self.step_size is not None:
            u = self.step_size * u
        if self.momentum is not None:
            trace = self.momentum * s.trace + u
            u = u + self.momentum * trace if self.nesterov else trace
        return u, RMSMoments(nu, mu, trace)

    def idle(self, s: RMSMoments, at: IdleSteps) -> tuple[Array, RMSMoments]:
        left = at.power(at.number("decay", self.decay))
        nu, mu, u, trace = s.nu * left, s.mu, jnp.zeros_like(at.params), s.trace
        if self.centered:
            nu, mu = nu + left * (1 - left) * abs_sq(s.mu), s.mu * left
        if self.momentum is not None:
            momentum = at.rate("momentum", self.momentum)
            u = s.trace * at.sum(lambda j, t: at.power(momentum, j + int(self.nesterov)), momentum)
            trace = s.trace * at.power(momentum)
        return u, RMSMoments(nu, mu, trace)

    def _optax_slots(self) -> tuple[Any, ...]:
        kind = f"ScaleByR{'StdDev' if self.centered else 'ms'}{'WithCount' if self.bias_correction else ''}State"
        return self._square(f"{kind}.nu"), f"{kind}.mu", ("TraceState.trace", *[lambda s: -s.trace] * 2)

    optax_slots = property(_optax_slots)
    torch_slots = property(lambda self: (self._square("square_avg"), "grad_avg", "momentum_buffer"))

    def _square(self, name: str) -> Any:
        """Where others keep the mean square for the variance."""
        variance, square = (lambda s: jnp.maximum(s.nu - abs_sq(s.mu), 0)), (lambda s: s.nu + abs_sq(s.mu))
        return (name, variance, square) if self.centered else name

    _v = property(lambda self: "v̂" if self.bias_correction else "v")
    eps_place = property(lambda self: f"√({self._v} + ε)" if self.eps_in_sqrt else f"√{self._v} + ε")
    corrected_averages = property(lambda self: ("v", "m, v")[self.centered] if self.bias_correction else "none")


@named(RMSProp)
def rmsprop(
    learning_rate: ScalarOrSchedule,
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    centered: bool = RMSProp.centered,
    momentum: ScalarOrSchedule | None = RMSProp.momentum,
    nesterov: bool = RMSProp.nesterov,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    """RMSProp (Tieleman & Hinton, 2012): the gradient in units of its root mean square.

    Hyperparameters are those of `adamx.RMSProp`; the rest is described by `adamx.optimizer`.

    The momentum adds up scaled steps, as in Optax; PyTorch's adds up directions (`adamx.preset`).

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.rmsprop(0.5, decay=0.75)
        >>> params = jnp.array([2.0])
        >>> opt.step(params, opt.init(params), params)[0].round(6)
        Array([1.], dtype=float32)
    """
    rule = RMSProp(decay, eps, initial_scale, momentum, eps_in_sqrt, centered, nesterov, bias_correction)
    rate = learning_rate
    if momentum is not None:
        rule, rate = dataclasses.replace(rule, step_size=learning_rate), 1.0
    return optimizer(rule, rate, **common(moments, weights, seed, kernel, groups))


@described(RMSProp, scale_by)
def scale_by_rms(
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """RMSProp's direction, without step size and sign; see `adamx.RMSProp`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> tx = adamx.scale_by_rms(decay=0.75)
        >>> grads = jnp.array([3.0, -0.2])
        >>> tx.update(grads, tx.init(grads))[0].round(4)
        Array([ 2., -2.], dtype=float32)
    """
    rule = RMSProp(decay, eps, initial_scale, eps_in_sqrt=eps_in_sqrt, bias_correction=bias_correction)
    return scale_by(rule, moments=moments, seed=seed)


@described(RMSProp, scale_by)
def scale_by_stddev(
    decay: ScalarOrSchedule = RMSProp.decay,
    eps: ScalarOrSchedule = RMSProp.eps,
    initial_scale: ScalarOrSchedule = RMSProp.initial_scale,
    eps_in_sqrt: bool = RMSProp.eps_in_sqrt,
    bias_correction: bool = RMSProp.bias_correction,
    *,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """The direction of centred RMSProp, without step size and sign; see `adamx.RMSProp`.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> adamx.scale_by_stddev().init(jnp.zeros(2)).slots.mu  # the mean, which is subtracted
        Array([0., 0.], dtype=float32)
    """
    rule = RMSProp(decay, eps, initial_scale, None, eps_in_sqrt, centered=True, bias_correction=bias_correction)
    return scale_by(rule, moments=moments, seed=seed)
