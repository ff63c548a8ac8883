"""`python -m adamx list`, `python -m adamx describe NAME` and `python -m adamx presets [FRAMEWORK]`."""

import argparse
import sys

from . import catalogue, presets


def main(arguments: list[str] | None = None) -> int:
    """Print what optimizers there are, or what one is."""
    parser = argparse.ArgumentParser(prog="python -m adamx", description="What optimizers adamx has.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="all optimizers: what each does, its reference, its state in floats")
    listing.add_argument("--markdown", action="store_true", help="as the Markdown table of docs/choosing.md")
    describing = commands.add_parser("describe", help="one optimizer: reference, size of its state, defaults")
    describing.add_argument("name", help="such as adopt")
    porting = commands.add_parser("presets", help="how other frameworks spell them, as a Markdown table")
    porting.add_argument("framework", nargs="?", help="only this one's, such as pytorch")
    given = parser.parse_args(arguments)
    try:
        _print(given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _print(given: argparse.Namespace) -> None:
    if given.command == "describe":
        print(catalogue.describe(given.name))
    elif given.command == "presets":
        print(presets.table(given.framework))
    elif given.markdown:
        print(catalogue.table())
    else:
        rows = [catalogue.describe(name) for name in catalogue.names()]
        width = max(len(row.name) for row in rows)
        for row in rows:
            print(f"{row.name:<{width}}  {row.state:>4g}  {row.summary} ({row.reference})")


if __name__ == "__main__":
    sys.exit(main())
