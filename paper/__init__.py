"""The Adam paper (arXiv:1412.6980) put to the test: its figures, its claims, and the page of verdicts `docs/paper.md`.

`python -m paper --help` lists the commands. It runs from a checkout of the repository and is not part of the wheel:
`paper` imports adamx, never the other way round.
"""
