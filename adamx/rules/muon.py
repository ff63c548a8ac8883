"""Muon: momentum made orthogonal, for matrices (Jordan et al. 2024)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._annotations import Array, Beta, NonNegative, ScalarOrSchedule
from .._factory import Decay, Groups, Kernel, MomentFormats, Optimizer, Weights, common, decaying, named, optimizer
from .._math import biased, debias, ema, nesterov_mean, sign
from .._rule import Rule, Slot, StepContext, static
from ..groups import Match
from ..matrices.layout import axes
from ..matrices.newton_schulz import DTYPES, iteration
from ..matrices.steps import LENGTHS, levelled
from ..pathwise import of_matrices
from .adam import adamw


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
        ns_coeffs: the polynomials of Newton–Schulz: "keller_jordan" (Optax's numbers), "quintic" (its "dion"),
            "polar_express" (arXiv:2505.16932), "cans" (arXiv:2506.10935), "deepseek_v4", three numbers for all steps or
            three for each. Singular values of 1e-2 of the norm and more end within .32, .03, .14, .12, .001 of 1.
        ns_steps: how many steps; `None` for 5, or as many as `ns_coeffs` are for.
        ns_dtype: what is multiplied: "leaf", the leaf's dtype at JAX's default precision, which of float32 is TF32 on
            NVIDIA's GPUs and bfloat16 on TPUs; "float32", at least, at `Precision.HIGHEST`; "bfloat16".
        eps: added to the norm by which a matrix is divided first.
        scale: the factor $s$ for a matrix from `in` inputs to `out` outputs: "original",
            $\sqrt{\max(1, \text{out}/\text{in})}$ (Keller Jordan, PyTorch, Optax); "rms", $.2\sqrt{\max(\text{in},
            \text{out})}$, which is as long as a step of AdamW's (Moonlight, PyTorch's "match_rms_adamw"); "spectral",
            $\sqrt{\text{out}/\text{in}}$ (Scion, Dion); or "none", 1.
        rms: the .2 of "rms".
        layout: a word for each axis of a leaf: "in,out" in Flax, "out,in" in PyTorch, "batch,in,out" for scanned layers
            or experts, "in,batch,out" for the heads of an attention's kernel, "in,in,in,out" for a convolution's,
            "in,out/3" for fused queries, keys and values, of other sizes "in,out/1024+256+256".
        second_moment: "rows" divides each output's part of $O_t$ by the root of an average of its mean square (NorMuon,
            arXiv:2510.05491); "elements" each element, of the momentum's signs (AdaMuon, arXiv:2507.11005). Both keep
            the norm of $O_t$. "none" for neither.
        b2: decay rate of that average.

    Reference: Jordan et al., kellerjordan.github.io/posts/muon; Liu et al., arXiv:2502.16982 (Moonlight).
    """

    beta: Beta = 0.95
    nesterov: bool = static(default=True)
    bias_correction: bool = static(default=True)
    ns_coeffs: Any = static(default="keller_jordan")
    ns_steps: int | None = static(default=None)
    ns_dtype: str = static(default="leaf", choices=DTYPES)
    eps: NonNegative = 0.0
    scale: str = static(default="original", choices=tuple(LENGTHS))
    rms: NonNegative = 0.2
    layout: str = static(default="in,out")
    second_moment: str = static(default="none", choices=("none", "rows", "elements"))
    b2: Beta = 0.95
    elementwise = False
    eps_place = "‖m‖ + ε"
    optax_slots, torch_slots = ("MuonState.mu", None), ("momentum_buffer", None)
    corrected_averages = property(lambda self: "m" if self.bias_correction else "none")

    def __post_init__(self) -> None:
        iteration(self.ns_coeffs, self.ns_steps, self.ns_dtype)
        if isinstance(self.ns_coeffs, list):
            object.__setattr__(self, "ns_coeffs", tuple(tuple(x) if isinstance(x, list) else x for x in self.ns_coeffs))
        axes(self.layout)

    def _slots(self) -> MuonMoments:
        return MuonMoments(mu=Slot(), nu=Slot(init=self._first_nu, nonnegative=True))

    slots = property(_slots)

    def _first_nu(self, p: Array, dtype: Any) -> Array | None:
        if self.second_moment == "none" or axes(self.layout).misfit(p.shape):  # which `step` refuses
            return None
        nu = jnp.zeros_like(p, dtype=dtype)
        ins = [i for i, word in enumerate(axes(self.layout).words) if word == "in"]
        return nu if self.second_moment == "elements" else nu.sum(ins, keepdims=True)  # sharded as means will be

    def step(self, g: Array, s: MuonMoments, at: StepContext) -> tuple[Array, MuonMoments]:
        mu, hat = ema(s.mu, g, self.beta), debias if self.bias_correction else biased
        m = nesterov_mean(mu, g, self.beta, at.t, hat) if self.nesterov else hat(mu, self.beta, at.t)
        own, orthogonal = axes(self.layout), iteration(self.ns_coeffs, self.ns_steps, self.ns_dtype)
        stacks = own.stacks(sign(m) if self.second_moment == "elements" else m)
        steps, moments = [], None if s.nu is None else own.stacks(s.nu)
        for i, x in enumerate(stacks):
            ins, outs = x.shape[1:]
            o = jax.vmap(lambda each: at.together(orthogonal, each, shared=(self.eps,)))(x.mT if ins > outs else x)
            o = o.mT if ins > outs else o
            if moments is not None:
                o, moments[i] = levelled(o, moments[i], self.b2, self.second_moment == "rows")
            steps.append(LENGTHS[self.scale](ins, outs, self.rms) * o)
        nu = None if s.nu is None or moments is None else own.leaf(moments, s.nu.shape)
        return own.leaf(steps, g.shape), MuonMoments(mu, nu)


@named(Muon)
def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = Muon.ns_coeffs,
    ns_steps: int | None = Muon.ns_steps,
    beta: ScalarOrSchedule = Muon.beta,
    eps: ScalarOrSchedule = Muon.eps,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    rest: Any = None,
    matrices: Match | None = None,
    layout: str | Mapping[str, str] = Muon.layout,
    nesterov: bool = Muon.nesterov,
    bias_correction: bool = Muon.bias_correction,
    ns_dtype: str = Muon.ns_dtype,
    scale: str = Muon.scale,
    consistent_rms: ScalarOrSchedule | None = None,
    second_moment: str = Muon.second_moment,
    b2: ScalarOrSchedule = Muon.b2,
    decay: Decay = "decoupled",
    lr_max: float | None = None,
    moments: MomentFormats = "float32",
    weights: Weights = "nearest",
    seed: int = 0,
    kernel: Kernel = "auto",
    groups: Groups = (),
) -> Optimizer:
    r"""Muon (arXiv:2502.16982): momentum made orthogonal, for matrices; another optimizer for the rest.

    Hyperparameters are those of `adamx.Muon`. `rest` takes vectors and scalars, leaves named as embeddings, heads,
    routers, norms or biases, in stacks, too, depthwise kernels, and leaves of other axes than their layout. Optax takes
    all leaves of two axes. `adamx.explain` lists the optimizer of each leaf, and why. NorMuon is
    `second_moment="rows"`, AdaMuon "elements", Moonlight `scale="rms", bias_correction=False, weight_decay=0.1`.

    Optax gives `ns_coeffs` in numbers. Its default of `ns_steps` is 5, here `None`, so that longer lists need no other;
    its `eps` of 1e-8, which stops matrices whose gradients are as small, is 0. For its `adam_b1`, `adam_b2`,
    `adam_eps_root`, `adam_weight_decay` and `adam_learning_rate` there is `rest`, for `muon_weight_dimension_numbers`
    `matrices` and `layout`. There is no `adaptive` nor `preconditioning`.

    Args:
        weight_decay: of the matrices, in the step size's but not the shape's proportion.
        weight_decay_mask: which of the matrices decay, `mask` of `adamx.optimizer`.
        rest: the optimizer of all other leaves, any Optax transformation; `None` for Optax's,
            `adamx.adamw(learning_rate, nesterov=nesterov, weight_decay=0)`. The same step size suits both with
            `scale="rms"`; with "original" matrices take one about ten times as large.
        matrices: which leaves are, in place of the above: a regular expression searched in a leaf's path, its keys
            joined by "/", which chooses no vectors, or a function of path and leaf.
        layout: what the axes of matrices are, see `adamx.Muon`; or a mapping from such expressions to layouts, of which
            the first that matches counts, and "in,out" where none does.
        consistent_rms: the `rms` of `scale="rms"`, which it implies.
        groups: settings of some matrices, see `adamx.Group`; `rest` has its own.

    Returns:
        An `Optimizer`; its state has the part of each layout's matrices, `state.parts["in,out"]`, and that of the
        "rest", as that of `adamx.by_path`.

    Raises:
        ValueError: another number of `ns_steps` than of polynomials; an unknown layout; a leaf that is not of its own.

    Examples:
        >>> import adamx, jax.numpy as jnp
        >>> params = {"embed": jnp.ones((8, 2)), "dense": {"kernel": jnp.eye(2), "bias": jnp.ones(2)}}
        >>> opt = adamx.muon(0.02, ns_coeffs="deepseek_v4", rest=adamx.adamw(3e-4))
        >>> new, _ = opt.step(params, opt.init(params), params)
        >>> (params["dense"]["kernel"] - new["dense"]["kernel"]).round(4)
        Array([[0.02, 0.  ],
               [0.  , 0.02]], dtype=float32)
        >>> [leaf.pattern for leaf in adamx.explain(opt, params)]
        ['rest: an embedding, by its name', 'in,out', 'rest: a vector']
    """
    scale, rms = (scale, Muon.rms) if consistent_rms is None else ("rms", consistent_rms)
    rule = Muon(
        beta, nesterov, bias_correction, ns_coeffs, ns_steps, ns_dtype, eps, scale, rms, Muon.layout, second_moment, b2
    )
    decays = decaying(weight_decay, weight_decay_mask, decay, lr_max)
    shared = common(moments, weights, seed, kernel, ())
    if rest is None:
        rest = adamw(learning_rate, mu_dtype=mu_dtype, weight_decay=0.0, nesterov=nesterov, **shared)

    def make(axes: str, groups: Groups) -> Optimizer:
        own = {**shared, "groups": groups}
        return optimizer(dataclasses.replace(rule, layout=axes), learning_rate, mu_dtype=mu_dtype, **decays, **own)

    return of_matrices(make, rest, layout, matrices, groups)
