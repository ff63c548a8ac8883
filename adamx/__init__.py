"""adamx: Adam and its family as composable gradient transformations for JAX."""

from . import schedules as schedules
from ._alias import adam as adam
from ._alias import adamax as adamax
from ._alias import adamaxw as adamaxw
from ._alias import adamw as adamw
from ._alias import scale_by_adam as scale_by_adam
from ._alias import scale_by_adamax as scale_by_adamax
from ._alias import scale_by_bias_correction as scale_by_bias_correction
from ._engine import Optimizer as Optimizer
from ._engine import State as State
from ._engine import scale_by as scale_by
from ._optimizer import optimizer as optimizer
from ._rule import At as At
from ._rule import Moments as Moments
from ._rule import Rule as Rule
from ._rule import Slot as Slot
from ._rule import static as static
from ._typing import Beta as Beta
from ._typing import NonNegative as NonNegative
from .rules.adam import Adam as Adam
from .rules.adamax import AdaMax as AdaMax
from .trajectories.averaging import averaged_params as averaged_params
from .trajectories.averaging import averaging as averaging

__version__ = "0.1.0"
