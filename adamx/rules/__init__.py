"""One paper a file. A rule imports `_rule` and `_math`, nothing else of the library."""
