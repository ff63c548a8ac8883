"""Adam (arXiv:1412.6980, Algorithm 1)."""

from typing import Any

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Weights, common, decaying, described, named
from .._math import abs_sq, adam_ratio, bias_correction, biased, debias, ema, eps_beside_hat, nesterov_mean
from .._optimizer import optimizer
from .._rule import Moments, Rule, Slot, StepContext, static
from .._transform import Optimizer, scale_by
from ..estimates import MomentEstimates
from ..idle import IdleSteps


class Adam(Rule[Moments]):
    r"""Adam: the mean of the gradient, in units of the root of its mean square.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2$$
    $$\hat m_t = m_t / (1-\beta_1^t) \qquad \hat v_t = v_t / (1-\beta_2^t) \qquad
      u_t = \hat m_t / (\sqrt{\hat v_t + \bar\varepsilon} + \varepsilon)$$

    Attributes:
        b1: decay rate of the mean, $\beta_1$.
        b2: decay rate of the mean square, $\beta_2$.
        eps: $\varepsilon$ beside the root, in units of the gradient; 0 is allowed, a zero gradient then still gives a
            zero step.
        eps_root: $\bar\varepsilon$ inside the root, in units of the squared gradient; positive values make the step
            differentiable at zero gradients.
        nesterov: look one step ahead, $\hat m_t = \beta_1 m_t/(1-\beta_1^{t+1}) + (1-\beta_1) g_t/(1-\beta_1^t)$.
        bias_correction: whether the hats are taken; if not, $u_t = m_t/(\sqrt{v_t + \bar\varepsilon}+\varepsilon)$.
        eps_hat: read `eps` and `eps_root` as those of the paper's efficient form (end of section 2), constant beside
            the *uncorrected* $\sqrt{v_t}$, as TensorFlow 1 and Keras do; `eps` then weighs $1/\sqrt{1-\beta_2^t}$ more.

    Reference: Kingma & Ba, arXiv:1412.6980, Algorithm 1; nesterov: Dozat, ICLR 2016 workshop, with constant $\beta_1$.
    """

    b1: Beta = 0.9
    b2: Beta = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    nesterov: bool = static(default=False)
    bias_correction: bool = static(default=True)
    eps_hat: bool = static(default=False)
    elementwise = True
    corrected_averages = property(lambda self: "m, v" if self.bias_correction else "none")
    slots = Moments(mu=Slot(unit=lambda s: jnp.sqrt(s.nu)), nu=Slot(nonnegative=True))
    optax_slots = ("ScaleByAdamState.mu", "ScaleByAdamState.nu")
    torch_slots = ("exp_avg", "exp_avg_sq")

    def step(self, g: Array, s: Moments, at: StepContext) -> tuple[Array, Moments]:
        mu = ema(s.mu, g, self.b1)
        nu = ema(s.nu, abs_sq(g), self.b2)
        hat = debias if self.bias_correction else biased
        m_hat, v_hat = hat(mu, self.b1, at.t), hat(nu, self.b2, at.t)
        if self.nesterov:
            m_hat = nesterov_mean(mu, g, self.b1, at.t, hat)
        eps, eps_root = self.eps, self.eps_root
        if self.eps_hat and self.bias_correction:
            eps, eps_root = eps_beside_hat(eps, self.b2, at.t), debias(eps_root, self.b2, at.t)
        return adam_ratio(m_hat, v_hat, eps, eps_root), Moments(mu, nu)

    def idle(self, s: Moments, at: IdleSteps) -> tuple[Array, Moments]:
        b1, b2, ahead = at.rate("b1", self.b1), at.rate("b2", self.b2), int(self.nesterov)
        eps, eps_root = at.number("eps", self.eps), at.number("eps_root", self.eps_root)
        hat = (lambda j: 1 / at.correction(b2, j)) if self.bias_correction and not self.eps_hat else lambda j: 1.0
        element = lambda j, t: adam_ratio(s.mu, s.nu * (at.power(b2, j) * hat(j)), eps, eps_root)  # noqa: E731

        def term(j: Array, t: Array) -> Array:
            mean = at.power(b1, j + ahead) / (at.correction(b1, j + ahead) if self.bias_correction else 1.0)
            return mean * jnp.sqrt(at.correction(b2, j)) if self.eps_hat and self.bias_correction else mean

        return at.sum_beside_root(element, term, b1 / b2**0.5, b2), Moments(s.mu * at.power(b1), s.nu * at.power(b2))

    def moment_estimates(self, t: Array) -> MomentEstimates:
        if not self.bias_correction:
            return MomentEstimates(eps=self.eps)
        eps = eps_beside_hat(self.eps, self.b2, t) if self.eps_hat else self.eps
        return MomentEstimates(bias_correction(self.b1, t), bias_correction(self.b2, t), eps, (self.b1, self.b2))

    eps_place = property(lambda self: ("√v̂ + ε", "√v + ε̂")[self.eps_hat] if self.bias_correction else "√v + ε")


@named(Adam)
def adam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Adam (arXiv:1412.6980): the mean of the gradient, in units of the root of its mean square.

    Unlike `optax.adam`, the state is at least float32 whatever the parameters are, and the bias correction is exact
    to rounding.

    Hyperparameters are those of `adamx.Adam`; the rest is described by `adamx.optimizer`.

    Args:
        learning_rate: the step size $\alpha$, .001 in the paper; like every number here a Python number, a traced
            scalar or a schedule of the finished steps.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> opt = adamx.adam(learning_rate=0.1)
        >>> params = jnp.array([1.0, 2.0])
        >>> updates, state = opt.update(jnp.array([5.0, -1e-4]), opt.init(params), params)
        >>> updates
        Array([-0.1    ,  0.09999], dtype=float32)
    """
    rule = Adam(b1, b2, eps, eps_root, nesterov, eps_hat=eps_hat)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **common(moments, weights, seed, kernel, groups))


@named(Adam)
def adamw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    eps_hat: bool = False,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""AdamW (arXiv:1711.05101): Adam with decoupled weight decay.

    Hyperparameters are those of `adamx.Adam`; the rest is described by `adamx.optimizer`.

    Args:
        weight_decay: its strength $\lambda$; a number, a traced scalar or a schedule. The default is Optax's; PyTorch's
            is 1e-2.

    Examples:
        >>> import adamx, jax, jax.numpy as jnp
        >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        >>> opt = adamx.adamw(0.1, weight_decay=1.0, mask={"kernel": True, "bias": False})
        >>> params, state = opt.step(jax.tree.map(jnp.zeros_like, params), opt.init(params), params)
        >>> params["kernel"][0], params["bias"]
        (Array([0.9, 0.9], dtype=float32), Array([1., 1.], dtype=float32))
    """
    rule = Adam(b1, b2, eps, eps_root, nesterov, eps_hat=eps_hat)
    decays, shared = decaying(weight_decay, mask, decay, lr_max), common(moments, weights, seed, kernel, groups)
    return optimizer(rule, learning_rate, mu_dtype=mu_dtype, **decays, **shared)


@described(Adam, scale_by)
def scale_by_adam(
    b1: ScalarOrSchedule = Adam.b1,
    b2: ScalarOrSchedule = Adam.b2,
    eps: ScalarOrSchedule = Adam.eps,
    eps_root: ScalarOrSchedule = Adam.eps_root,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    eps_hat: bool = False,
    moments: MomentFormats = "float32",
    seed: int = 0,
) -> Optimizer:
    """Adam's direction, without step size and sign, to chain by hand.

    Hyperparameters are those of `adamx.Adam`; `adamx.scale_by` describes the other arguments, and
    also takes `groups`: `adamx.scale_by(adamx.Adam(b1), groups=groups)`.

    The paper's efficient form, with a constant ε̂ (arXiv:1412.6980, end of section 2), corrects the step size instead:

    Examples:
        >>> import adamx, jax.numpy as jnp, optax
        >>> by_hand = optax.chain(
        ...     adamx.scale_by_adam(b1=0.9, b2=0.99, bias_correction=False),
        ...     adamx.scale_by(adamx.BiasCorrection(b1=0.9, b2=0.99)),
        ...     optax.scale_by_learning_rate(0.5),
        ... )
        >>> params = jnp.array([3.0, -4.0])
        >>> by_hand.update(params, by_hand.init(params), params)[0].round(6)
        Array([-0.5,  0.5], dtype=float32)
    """
    rule = Adam(b1, b2, eps, eps_root, nesterov, bias_correction, eps_hat)
    return scale_by(rule, mu_dtype=mu_dtype, moments=moments, seed=seed)
