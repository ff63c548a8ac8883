"""A monitor of what an optimizer does, advice on hyperparameters, and writers of logs and pages."""

from ._history import History as History
from ._lr_range import LRRange as LRRange
from ._lr_range import lr_range_test as lr_range_test
from ._monitor import MonitorState as MonitorState
from ._monitor import monitor as monitor
from ._read import Spike as Spike
from ._read import last_norm as last_norm
from ._read import read as read
from ._read import spikes as spikes
from ._stalls import Stalled as Stalled
from ._stalls import Stalls as Stalls
from ._stalls import stalls as stalls
from ._suggest_b2 import B2Advice as B2Advice
from ._suggest_b2 import half_life as half_life
from ._suggest_b2 import suggest_b2 as suggest_b2
from ._suggest_eps import EpsAdvice as EpsAdvice
from ._suggest_eps import suggest_eps as suggest_eps
