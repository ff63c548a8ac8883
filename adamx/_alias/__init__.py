"""The optimizers by name: a thin function each, with explicit keywords. Defaults are the rules' own."""
