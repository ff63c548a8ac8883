"""What makes the documentation site from `docs/`, the docstrings and the notebooks: `make docs`."""
