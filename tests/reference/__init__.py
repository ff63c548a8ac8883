"""The papers' boxes in NumPy's extended precision, written from the equations; no code of the library is used.

Each is a generator function: send gradients in by iterating, get the directions `u` (to be subtracted, times the
step size) out, and read nothing else.
"""

from tests.reference.adam import adam, adamax

__all__ = ["adam", "adamax"]
