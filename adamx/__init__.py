"""adamx: Adam and its family as composable gradient transformations for JAX."""

import gc
import importlib
from typing import TYPE_CHECKING, Any

# Importing makes many objects that stay: a collection in its midst finds nothing, and takes as long as all of adamx.
_collects = gc.isenabled()
gc.disable()


from . import kernels as kernels
from . import schedules as schedules
from ._alias.adam import adam as adam
from ._alias.adam import adamax as adamax
from ._alias.adam import adamaxw as adamaxw
from ._alias.adam import adamw as adamw
from ._alias.modified import cadamw as cadamw
from ._alias.modified import grams as grams
from ._alias.modified import lamb as lamb
from ._alias.modified import mars_adamw as mars_adamw
from ._alias.momenta import adam_mini as adam_mini
from ._alias.momenta import adan as adan
from ._alias.momenta import ademamix as ademamix
from ._alias.momenta import adopt as adopt
from ._alias.momenta import simplified_ademamix as simplified_ademamix
from ._alias.momenta import stable_adamw as stable_adamw
from ._alias.nadam_amsgrad import adamx as adamx
from ._alias.nadam_amsgrad import amsgrad as amsgrad
from ._alias.nadam_amsgrad import nadam as nadam
from ._alias.nadam_amsgrad import nadamw as nadamw
from ._alias.others import adadelta as adadelta
from ._alias.others import adafactor as adafactor
from ._alias.others import adagrad as adagrad
from ._alias.others import came as came
from ._alias.others import lion as lion
from ._alias.others import novograd as novograd
from ._alias.others import rmsprop as rmsprop
from ._alias.scale import scale_by_adam as scale_by_adam
from ._alias.scale import scale_by_adam_atan2 as scale_by_adam_atan2
from ._alias.scale import scale_by_adam_mini as scale_by_adam_mini
from ._alias.scale import scale_by_adamax as scale_by_adamax
from ._alias.scale import scale_by_adamx as scale_by_adamx
from ._alias.scale import scale_by_adan as scale_by_adan
from ._alias.scale import scale_by_ademamix as scale_by_ademamix
from ._alias.scale import scale_by_adopt as scale_by_adopt
from ._alias.scale import scale_by_amsgrad as scale_by_amsgrad
from ._alias.scale import scale_by_belief as scale_by_belief
from ._alias.scale import scale_by_bias_correction as scale_by_bias_correction
from ._alias.scale import scale_by_laprop as scale_by_laprop
from ._alias.scale import scale_by_nadam as scale_by_nadam
from ._alias.scale import scale_by_radam as scale_by_radam
from ._alias.scale import scale_by_simplified_ademamix as scale_by_simplified_ademamix
from ._alias.scale import scale_by_stable_adamw as scale_by_stable_adamw
from ._alias.scale import scale_by_yogi as scale_by_yogi
from ._alias.scale_others import scale_by_adadelta as scale_by_adadelta
from ._alias.scale_others import scale_by_adafactor as scale_by_adafactor
from ._alias.scale_others import scale_by_came as scale_by_came
from ._alias.scale_others import scale_by_lion as scale_by_lion
from ._alias.scale_others import scale_by_novograd as scale_by_novograd
from ._alias.scale_others import scale_by_rms as scale_by_rms
from ._alias.scale_others import scale_by_rss as scale_by_rss
from ._alias.scale_others import scale_by_stddev as scale_by_stddev
from ._alias.trajectories import dadapt_adamw as dadapt_adamw
from ._alias.trajectories import lookahead as lookahead
from ._alias.trajectories import prodigy as prodigy
from ._alias.trajectories import schedule_free_adamw as schedule_free_adamw
from ._alias.trajectories import schedule_free_sgd as schedule_free_sgd
from ._alias.variants import adabelief as adabelief
from ._alias.variants import adam_atan2 as adam_atan2
from ._alias.variants import laprop as laprop
from ._alias.variants import radam as radam
from ._alias.variants import yogi as yogi
from ._catalogue import describe as describe
from ._catalogue import names as list  # noqa: F401  # pyright: ignore[reportUnusedImport]  (public: adamx.list)
from ._engine import State as State
from ._explain import explain as explain
from ._memory import from_master as from_master
from ._memory import map_slots as map_slots
from ._memory import master_params as master_params
from ._memory import pack_state as pack_state
from ._memory import state_bytes as state_bytes
from ._memory import unpack_state as unpack_state
from ._optimizer import optimizer as optimizer
from ._rule import At as At
from ._rule import Modifier as Modifier
from ._rule import Moments as Moments
from ._rule import Rule as Rule
from ._rule import Slot as Slot
from ._rule import static as static
from ._transform import Optimizer as Optimizer
from ._transform import scale_by as scale_by
from ._typing import Beta as Beta
from ._typing import NonNegative as NonNegative
from .modifiers.cautious import Cautious as Cautious
from .modifiers.clipped import ClippedByRMS as ClippedByRMS
from .modifiers.extrapolation import MARS as MARS
from .modifiers.extrapolation import Nesterov as Nesterov
from .modifiers.grams import Grams as Grams
from .modifiers.trust_ratio import Decayed as Decayed
from .modifiers.trust_ratio import TrustRatio as TrustRatio
from .rules.adabelief import AdaBelief as AdaBelief
from .rules.adadelta import AdaDelta as AdaDelta
from .rules.adafactor import Adafactor as Adafactor
from .rules.adagrad import AdaGrad as AdaGrad
from .rules.adam import Adam as Adam
from .rules.adam_atan2 import AdamAtan2 as AdamAtan2
from .rules.adam_mini import AdamMini as AdamMini
from .rules.adamax import AdaMax as AdaMax
from .rules.adamx import AdamX as AdamX
from .rules.adan import Adan as Adan
from .rules.ademamix import AdEMAMix as AdEMAMix
from .rules.ademamix import SimplifiedAdEMAMix as SimplifiedAdEMAMix
from .rules.adopt import ADOPT as ADOPT
from .rules.amsgrad import AMSGrad as AMSGrad
from .rules.came import CAME as CAME
from .rules.laprop import LaProp as LaProp
from .rules.lion import Lion as Lion
from .rules.nadam import NAdam as NAdam
from .rules.novograd import NovoGrad as NovoGrad
from .rules.radam import RAdam as RAdam
from .rules.rmsprop import RMSProp as RMSProp
from .rules.sgd import SGD as SGD
from .rules.stable_adamw import StableAdamW as StableAdamW
from .rules.yogi import Yogi as Yogi
from .trajectories.averaging import ExponentialAverage as ExponentialAverage
from .trajectories.averaging import PolyakAverage as PolyakAverage
from .trajectories.averaging import averaged_params as averaged_params
from .trajectories.averaging import averaging as averaging
from .trajectories.dadapt_adam import DAdaptAdam as DAdaptAdam
from .trajectories.lookahead import Lookahead as Lookahead
from .trajectories.prodigy import Prodigy as Prodigy
from .trajectories.schedule_free import ScheduleFree as ScheduleFree
from .trajectories.schedule_free import schedule_free_eval_params as schedule_free_eval_params

if _collects:
    gc.enable()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import diagnostics as diagnostics
    from . import presets as presets
    from . import theory as theory
    from .presets import preset as preset


def __getattr__(name: str) -> Any:
    """What not every program needs comes when asked for: 80 presets, for those who port a run; diagnostics; theory."""
    home = {"preset": "presets", "monitor": "diagnostics"}.get(name, name)
    if home not in ("diagnostics", "presets", "theory"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{home}")
    return module if home == name else getattr(module, name)


# All names but `list`, which a star import should leave to Python, and what this file itself imports.
_LEFT_OUT = {"list", "gc", "importlib", "Any", "TYPE_CHECKING"}
__all__ = [name for name in globals() if name[0] != "_" and name not in _LEFT_OUT]  # pyright: ignore[reportUnsupportedDunderAll]
