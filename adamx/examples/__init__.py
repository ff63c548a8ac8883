"""Examples: Flax models, data sets, a training loop, and a demo that compares optimizers.

`python -m adamx.examples demo` runs the demo. The package needs the `examples` extra, in a checkout
`pip install ".[examples]"`; nothing else in adamx imports it.
"""
