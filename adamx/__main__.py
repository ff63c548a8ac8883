"""`python -m adamx list` and `python -m adamx describe NAME`."""

import argparse
import sys

from . import _catalogue


def main(arguments: list[str] | None = None) -> int:
    """Print what optimizers there are, or what one is."""
    parser = argparse.ArgumentParser(prog="python -m adamx", description="What optimizers adamx has.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all optimizers: what each does, its reference, its state in floats")
    listing.add_argument("--markdown", action="store_true", help="as the Markdown table of the README")
    describing = commands.add_parser("describe", help="one optimizer: reference, size of its state, defaults")
    describing.add_argument("name", help="such as adopt")
    given = parser.parse_args(arguments)
    if given.command == "describe":
        try:
            print(_catalogue.describe(given.name))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    elif given.markdown:
        print(_catalogue.table())
    else:
        rows = [_catalogue.describe(name) for name in _catalogue.names()]
        width = max(len(row.name) for row in rows)
        for row in rows:
            print(f"{row.name:<{width}}  {row.state:>4g}  {row.summary} ({row.reference})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
