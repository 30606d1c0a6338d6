"""The command `optc`, as `python -m optc`."""
import sys

from ._optc import main as _main


def main() -> int:
    """Runs the command with this process's arguments."""
    return _main(["optc", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
