"""adamx: Adam and its family as composable gradient transformations for JAX."""

import gc
import importlib
from typing import TYPE_CHECKING, Any

# Importing makes many objects that stay: a collection in its midst finds nothing, and takes as long as all of adamx.
_collects = gc.isenabled()
gc.disable()

from . import kernels as kernels
from . import schedules as schedules
from ._annotations import Beta as Beta
from ._annotations import NonNegative as NonNegative
from ._optimizer import optimizer as optimizer
from ._rule import Modifier as Modifier
from ._rule import Moments as Moments
from ._rule import Rule as Rule
from ._rule import Slot as Slot
from ._rule import StepContext as StepContext
from ._rule import static as static
from ._state import State as State
from ._transform import Optimizer as Optimizer
from ._transform import scale_by as scale_by
from .catalogue import describe as describe
from .catalogue import names as list  # noqa: F401  # pyright: ignore[reportUnusedImport]  (public: adamx.list)
from .estimates import MomentEstimates as MomentEstimates
from .groups import Group as Group
from .idle import IdleSteps as IdleSteps
from .moments import Int8 as Int8
from .mup import mup_groups as mup_groups
from .schedules import live as live
from .sharding import in_shard_map as in_shard_map
from .sharding import state_shardings as state_shardings
from .states.averages import averaged_params as averaged_params
from .states.bytes import state_bytes as state_bytes
from .states.convert import convert_state as convert_state
from .states.foreign import from_optax as from_optax
from .states.foreign import to_optax as to_optax
from .states.masters import from_master as from_master
from .states.masters import master_params as master_params
from .states.numbers import hyperparameters as hyperparameters
from .states.numbers import set_hyperparameters as set_hyperparameters
from .states.packing import map_slots as map_slots
from .states.packing import pack_state as pack_state
from .states.packing import unpack_state as unpack_state
from .states.plan import explain as explain
from .states.pytorch import from_torch as from_torch
from .states.regroup import regroup as regroup
from .wrapper import Wrapper as Wrapper

# Factories enter the registry when their file is imported: this order is that of `adamx.list()` and of lists.
# isort: off
from .rules.adam import Adam as Adam, adam as adam, adamw as adamw, scale_by_adam as scale_by_adam
from .rules.adamax import AdaMax as AdaMax, adamax as adamax, adamaxw as adamaxw, scale_by_adamax as scale_by_adamax
from .rules.nadam import NAdam as NAdam, nadam as nadam, nadamw as nadamw
from .rules.amsgrad import AMSGrad as AMSGrad, amsgrad as amsgrad, scale_by_amsgrad as scale_by_amsgrad
from .rules.adamx import AdamX as AdamX, adamx as adamx
from .rules.radam import RAdam as RAdam, radam as radam, scale_by_radam as scale_by_radam
from .rules.adabelief import AdaBelief as AdaBelief, adabelief as adabelief, scale_by_belief as scale_by_belief
from .rules.yogi import Yogi as Yogi, yogi as yogi, scale_by_yogi as scale_by_yogi
from .rules.laprop import LaProp as LaProp, laprop as laprop
from .rules.adam_atan2 import AdamAtan2 as AdamAtan2, adam_atan2 as adam_atan2
from .rules.adan import Adan as Adan, adan as adan, scale_by_adan as scale_by_adan
from .rules.adopt import ADOPT as ADOPT, adopt as adopt, scale_by_adopt as scale_by_adopt
from .rules.ademamix import AdEMAMix as AdEMAMix, ademamix as ademamix, scale_by_ademamix as scale_by_ademamix
from .rules.simplified_ademamix import SimplifiedAdEMAMix as SimplifiedAdEMAMix
from .rules.simplified_ademamix import simplified_ademamix as simplified_ademamix
from .rules.simplified_ademamix import scale_by_simplified_ademamix as scale_by_simplified_ademamix
from .rules.stable_adamw import StableAdamW as StableAdamW, stable_adamw as stable_adamw
from .rules.adam_mini import AdamMini as AdamMini, adam_mini as adam_mini
from .rules.adagrad import AdaGrad as AdaGrad, adagrad as adagrad, scale_by_rss as scale_by_rss
from .rules.rmsprop import RMSProp as RMSProp, rmsprop as rmsprop
from .rules.rmsprop import scale_by_rms as scale_by_rms, scale_by_stddev as scale_by_stddev
from .rules.adadelta import AdaDelta as AdaDelta, adadelta as adadelta, scale_by_adadelta as scale_by_adadelta
from .rules.lion import Lion as Lion, lion as lion, scale_by_lion as scale_by_lion
from .rules.novograd import NovoGrad as NovoGrad, novograd as novograd, scale_by_novograd as scale_by_novograd
from .rules.adafactor import Adafactor as Adafactor, adafactor as adafactor
from .rules.came import CAME as CAME, came as came
from .rules.muon import Muon as Muon, muon as muon
from .modifiers.trust_ratio import Decayed as Decayed, TrustRatio as TrustRatio, lamb as lamb
from .modifiers.cautious import Cautious as Cautious, cadamw as cadamw
from .modifiers.extrapolation import MARS as MARS, Nesterov as Nesterov, mars_adamw as mars_adamw
from .modifiers.grams import Grams as Grams, grams as grams
from .modifiers.soap import soap as soap, soap_adamax as soap_adamax, soap_lion as soap_lion
from .trajectories.schedule_free import ScheduleFree as ScheduleFree
from .trajectories.schedule_free import schedule_free_adamw as schedule_free_adamw
from .trajectories.schedule_free import schedule_free_eval_params as schedule_free_eval_params
from .trajectories.schedule_free import schedule_free_sgd as schedule_free_sgd
from .trajectories.prodigy import Prodigy as Prodigy, prodigy as prodigy
from .trajectories.dadapt_adam import DAdaptAdam as DAdaptAdam, dadapt_adamw as dadapt_adamw

from .backward import step_in_backward as step_in_backward
from .rows.rows import Rows as Rows

# Last, as it enters rules into the registry of the C++ backend.
from .kernels.cpu import programs as _programs  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .modifiers.clipped import ClippedByRMS as ClippedByRMS
from .modifiers.rotated import Rotated as Rotated
from .rules.bias_correction import BiasCorrection as BiasCorrection
from .rules.sgd import SGD as SGD
from .trajectories.averaging import ExponentialAverage as ExponentialAverage, PolyakAverage as PolyakAverage
from .trajectories.averaging import averaging as averaging
from .trajectories.lookahead import Lookahead as Lookahead, lookahead as lookahead
from .trajectories.posthoc import Snapshot as Snapshot, posthoc_params as posthoc_params
from .wrappers.accumulate import accumulate as accumulate
from .wrappers.averaged import averaged as averaged
from .wrappers.by_path import by_path as by_path
from .wrappers.guard import guard as guard, guard_report as guard_report
# isort: on

if _collects:
    gc.enable()

__version__ = "1.0.0"

if TYPE_CHECKING:
    from . import diagnostics as diagnostics
    from . import presets as presets
    from . import theory as theory
    from .diagnostics import last_norm as last_norm
    from .diagnostics import monitor as monitor
    from .presets import preset as preset


def __getattr__(name: str) -> Any:
    """What not every program needs comes when asked for: 80 presets, for those who port a run; diagnostics; theory."""
    home = {"preset": "presets", "monitor": "diagnostics", "last_norm": "diagnostics"}.get(name, name)
    if home not in ("diagnostics", "presets", "theory"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{home}")
    return module if home == name else getattr(module, name)


# All names but `list`, which a star import should leave to Python, and what imports leave here, files among it.
_LEFT_OUT = {name for name, x in globals().items() if type(x) is type(gc)} - {"kernels", "schedules"}
_LEFT_OUT |= {"list", "Any", "TYPE_CHECKING"}
__all__ = [name for name in globals() if name[0] != "_" and name not in _LEFT_OUT]  # pyright: ignore[reportUnsupportedDunderAll]
