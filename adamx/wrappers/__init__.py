"""Optimizers around an optimizer that keep its `step`."""
