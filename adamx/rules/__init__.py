"""One paper a file. A rule imports `_rule`, `_math` and `_typing`, and at most another rule whose parts it shares."""
