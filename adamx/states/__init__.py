"""Tools for states outside of a step: their bytes, formats, master weights, and a plan of the next step."""
