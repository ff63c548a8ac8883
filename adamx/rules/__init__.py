"""One paper a file. A rule imports the core modules, and at most another rule whose parts it shares."""
