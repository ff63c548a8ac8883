"""The optimizers of the demo, by the names the command line knows, each with a grid of step sizes.

The grids are half a decade apart and reach from slow to diverging on `digits`, so that the best step size is inside.
Hyperparameters other than the step size are each optimizer's defaults, AdamW's weight decay and SGD's momentum apart.
"""

from collections.abc import Iterable

import optax

import adamx

from .._names import validate_choice
from .protocol import Contender

CONTENDERS = {
    "adam": Contender("Adam", adamx.adam, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)),
    "adamax": Contender("AdaMax", adamx.adamax, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)),
    "adamw": Contender(
        "AdamW", lambda rate: adamx.adamw(rate, weight_decay=0.01), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
    ),
    "sgd-nesterov": Contender(
        "SGD + Nesterov",
        lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
        (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    ),
    "adagrad": Contender("AdaGrad", optax.adagrad, (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)),
    "rmsprop": Contender("RMSProp", optax.rmsprop, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)),
    "adadelta": Contender("AdaDelta", optax.adadelta, (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)),
}


def contenders(names: Iterable[str] = tuple(CONTENDERS)) -> list[Contender]:
    """The contenders called `names` in any case of letters, each once, in the order given; all of them by default.

    Raises:
        ValueError: a name is unknown; the message lists those known, and the nearest if one is near.
    """
    chosen = [validate_choice("optimizer", name.strip().lower(), CONTENDERS) for name in names]
    return [CONTENDERS[name] for name in dict.fromkeys(chosen)]
