#!/usr/bin/env python3
"""Each method alone and all together, at several budgets: the table of benches/MARKET.md.

    market.py --optc PATH --data SPEC --eval SPEC [--samples N] [--fractions 0.5,0.4] [--input SHAPE] MODEL...
"""
from pathlib import Path

from evaluated import parser, report, seconds

METHODS = ["red", "lrf", "lowrank", "cut", "red,lrf,lowrank,cut"]


def cell(arguments, model: str, methods: str, fraction: str) -> str:
    """Top-1 in percent, what is kept, and seconds; or that a target cannot be reached."""
    try:
        found = report(arguments, model, methods, "--target", f"macs={fraction}")
    except RuntimeError as error:
        if "cannot be reached" in str(error):
            return "not reached"
        raise
    kept = found["after"]["macs"] / found["before"]["macs"]
    return f"{100 * found['eval']['top1_after']:.2f} ({100 * kept:.1f} % kept, {seconds(found):.0f} s)"


def main() -> None:
    wanted = parser(__doc__)
    wanted.add_argument("--fractions", default="0.5,0.4,0.3")
    wanted.add_argument("--methods", default=";".join(METHODS))
    arguments = wanted.parse_args()
    fractions = arguments.fractions.split(",")
    print("| network | methods | " + " | ".join(f"macs={fraction}" for fraction in fractions) + " |")
    print("| --- " * (2 + len(fractions)) + "|")
    for model in arguments.models:
        for methods in arguments.methods.split(";"):
            cells = [cell(arguments, model, methods, fraction) for fraction in fractions]
            print(f"| {Path(model).stem} | {methods} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
