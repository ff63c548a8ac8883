"""Rules that wrap any rule without touching it."""
