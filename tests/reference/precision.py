"""What the transcriptions compute with: extended precision, 0 / 0 = 0, and hyperparameters that may vary per step."""

import numpy as np

LONG = np.longdouble
if np.finfo(LONG).eps > 1e-18:  # no 80-bit floats on this machine: a float64 reference has float64's rounding
    LONG = np.float64


def widen(g):
    """Extended precision, real or complex."""
    g = np.asarray(g)
    return g.astype(np.result_type(LONG, np.complex64) if np.iscomplexobj(g) else LONG)


def over(x, y):
    """x / y, and 0 / 0 = 0."""
    return np.divide(x, y, out=np.zeros_like(x), where=y != 0)


def square(x):
    """|x|^2, real also where x is complex."""
    return (x * x.conj()).real


def rms(x):
    """The root of the mean square over the whole array."""
    return np.sqrt(np.mean(square(x)))


def norm(x):
    """The Euclidean norm of the whole array."""
    return np.sqrt(np.sum(square(x)))


def at(x, t):
    """The value in step t, counted from 1, of a number or of a function of t."""
    return LONG(x(t) if callable(x) else x)
