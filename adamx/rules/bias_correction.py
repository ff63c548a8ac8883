"""Adam's bias correction as a factor of the step size (arXiv:1412.6980, section 2)."""

from .._annotations import Array, Beta
from .._math import bias_correction, step_size_correction
from .._rule import Rule, StepContext


class BiasCorrection(Rule[tuple[()]]):
    r"""The factor $\alpha_t/\alpha = \sqrt{1-\beta_2^t} / (1-\beta_1^t)$ of the paper's efficient form.

    Attributes:
        b1: decay rate of the mean, $\beta_1$.
        b2: decay rate of the mean square, $\beta_2$; `None` for AdaMax, whose maximum needs no correction.

    Reference: Kingma & Ba, arXiv:1412.6980, end of section 2; for `b2=None`, Algorithm 2.
    """

    b1: Beta = 0.9
    b2: Beta | None = 0.999
    elementwise = True

    def step(self, g: Array, s: tuple[()], at: StepContext) -> tuple[Array, tuple[()]]:
        if self.b2 is None:
            return g / bias_correction(self.b1, at.t), s
        return g * step_size_correction(self.b1, self.b2, at.t), s
