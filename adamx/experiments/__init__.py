"""Experiments: Flax models, image data and the protocol by which the Adam paper compares optimizers.

`python -m adamx.experiments demo` runs one. Nothing in the library proper imports this package, and it needs the
`experiments` extra: `pip install "adamx[experiments]"`.
"""
