"""Muon: momentum made orthogonal, for matrices (Jordan et al. 2024)."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative
from .._math import abs_sq, biased, debias, div_no_nan, ema, nesterov_mean, sign
from .._rule import Rule, Slot, StepContext, static
from ..matrices.coefficients import SETS, coefficients
from ..matrices.layout import axes
from ..matrices.newton_schulz import DTYPES, NewtonSchulz


class MuonMoments(NamedTuple):
    """The momentum, and the second moment of the orthogonal matrices (`None` unless asked for)."""

    mu: Any
    nu: Any


class Muon(Rule[MuonMoments]):
    r"""Momentum whose singular values are made 1: the steepest descent in the spectral norm.

    $$m_t = \beta m_{t-1} + (1-\beta) g_t \qquad O_t = \mathrm{NewtonSchulz}(\beta m_t + (1-\beta) g_t) \approx U V^\top
      \qquad u_t = s\,O_t$$

    Attributes:
        beta: decay rate of the momentum.
        nesterov: whether the momentum is looked one step ahead, as the equation has it.
        bias_correction: whether both terms are corrected for their bias, as in Optax and NAdam, which weighs the
            gradient less in the first steps. Keller Jordan, Moonlight and PyTorch do not.
        ns_coeffs: the polynomials of Newton–Schulz: "keller_jordan", "quintic" (Optax's "dion"), "polar_express"
            (arXiv:2505.16932), "cans" (arXiv:2506.10935), "deepseek_v4", three numbers for all steps, or three for each.
            Singular values of 1e-2 of the norm and more end within .32, .03, .14, .12 and .001 of 1.
        ns_steps: how many steps; `None` for 5, or as many as `ns_coeffs` are for.
        ns_dtype: what is multiplied: "leaf", the dtype that a leaf is computed in at JAX's default precision, which is
            TF32 on NVIDIA's GPUs and bfloat16 on TPUs; "float32", at least, at the highest; "bfloat16".
        eps: added to the norm by which a matrix is divided first.
        scale: the factor $s$ for a matrix from `in` inputs to `out` outputs: "original",
            $\sqrt{\max(1, \text{out}/\text{in})}$ (Keller Jordan, PyTorch, Optax); "rms", $.2\sqrt{\max(\text{in},
            \text{out})}$, which is as long as a step of AdamW's (Moonlight, PyTorch's "match_rms_adamw"); "spectral",
            $\sqrt{\text{out}/\text{in}}$ (Scion, Dion); or "none", 1.
        rms: the .2 of "rms", the root mean square of a step's elements.
        layout: a word for each axis of a leaf: "in,out" in Flax, "out,in" in PyTorch, "batch,in,out" for scanned layers
            or experts, "in,batch,out" for the heads of an attention's kernel, "in,in,in,out" for a convolution's,
            "in,out/3" for fused queries, keys and values, of other sizes "in,out/1024+256+256". `adamx.Group` may
            give some leaves another.
        second_moment: "rows" divides each output's part of $O_t$ by the root of an average of its mean square (NorMuon,
            arXiv:2510.05491); "elements" each element, of the momentum's signs (AdaMuon, arXiv:2507.11005). Both keep
            the norm of $O_t$. "none" for neither.
        b2: decay rate of that average.

    Reference: Jordan et al., kellerjordan.github.io/posts/muon; Liu et al., arXiv:2502.16982 (Moonlight).
    """

    beta: Beta = 0.95
    nesterov: bool = static(default=True)
    bias_correction: bool = static(default=True)
    ns_coeffs: Any = static(default=SETS["keller_jordan"].triples[0])
    ns_steps: int | None = static(default=None)
    ns_dtype: str = static(default="leaf", choices=DTYPES)
    eps: NonNegative = 0.0
    scale: str = static(default="original", choices=("original", "rms", "spectral", "none"))
    rms: NonNegative = 0.2
    layout: str = static(default="in,out")
    second_moment: str = static(default="none", choices=("none", "rows", "elements"))
    b2: Beta = 0.95
    elementwise = False
    eps_place = "‖m‖ + ε"
    corrected_averages = property(lambda self: "m" if self.bias_correction else "none")

    def __post_init__(self) -> None:
        coefficients(self.ns_coeffs, self.ns_steps)
        if isinstance(self.ns_coeffs, list):
            object.__setattr__(self, "ns_coeffs", tuple(tuple(x) if isinstance(x, list) else x for x in self.ns_coeffs))
        axes(self.layout)

    def _slots(self) -> MuonMoments:
        return MuonMoments(mu=Slot(), nu=Slot(init=self._first_nu, nonnegative=True))

    slots = property(_slots)

    def _first_nu(self, p: Array, dtype: Any) -> Array | None:
        if self.second_moment == "none":
            return None
        nu = jnp.zeros_like(p, dtype=dtype)
        ins = [i for i, word in enumerate(axes(self.layout).words) if word == "in"]
        return nu if self.second_moment == "elements" else nu.sum(ins, keepdims=True)  # sharded as means will be

    def step(self, g: Array, s: MuonMoments, at: StepContext) -> tuple[Array, MuonMoments]:
        mu, hat = ema(s.mu, g, self.beta), debias if self.bias_correction else biased
        m = nesterov_mean(mu, g, self.beta, at.t, hat) if self.nesterov else hat(mu, self.beta, at.t)
        own = axes(self.layout)
        orthogonal = NewtonSchulz(coefficients(self.ns_coeffs, self.ns_steps), self.ns_dtype)
        steps, moments = [], own.stacks(s.nu) if s.nu is not None else None
        for i, x in enumerate(own.stacks(sign(m) if self.second_moment == "elements" else m)):
            ins, outs = x.shape[1:]
            o = at.together(orthogonal, x.mT if ins > outs else x, shared=(self.eps,))
            o = o.mT if ins > outs else o
            if moments is not None:
                o, moments[i] = self._levelled(o, moments[i])
            steps.append(self._factor(ins, outs) * o)
        nu = None if s.nu is None or moments is None else own.leaf(moments, s.nu.shape)
        return own.leaf(steps, g.shape), MuonMoments(mu, nu)

    def _factor(self, ins: int, outs: int) -> Any:
        """The scale of the step; 1 where there is nothing to scale."""
        if self.scale == "none" or not ins * outs:
            return 1.0
        if self.scale == "rms":
            return self.rms * math.sqrt(max(ins, outs))
        return math.sqrt(outs / ins if self.scale == "spectral" else max(1, outs / ins))

    def _levelled(self, o: Array, nu: Array) -> tuple[Array, Array]:
        """Orthogonal matrices divided by the roots of their second moments, at the norm that they had; the moments."""
        square = abs_sq(o)
        nu = ema(nu, square if self.second_moment == "elements" else square.mean(1, keepdims=True), self.b2)
        level = o / (jnp.sqrt(nu) + 1e-8)
        norms = [jnp.sqrt(abs_sq(x).sum((1, 2), keepdims=True)) for x in (o, level)]
        return level * div_no_nan(*norms), nu
