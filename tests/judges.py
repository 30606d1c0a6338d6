#!/usr/bin/env python3
"""Install what judges `.onnx` files in tests, and print the folder for PYTHONPATH.

    export PYTHONPATH=$(python3 tests/judges.py)          tests/judges.sh does this

ONNX Runtime is loaded from its Python package by the tests; the package onnx has the reference that folded sizes are compared
with. Both go into target/judges, or OPTC_JUDGES_DIR, whole or not at all, and a second run finds them there. With the argument
`pytest` it is pytest that is installed so, into target/pytest.
"""
import os
import pathlib
import sys
import tempfile

from libtorch import ROOT, Failure, pip, run, say

# What there is to install, by the folder that it goes into; the newest that this Python takes.
PACKAGES = {"judges": ["onnxruntime>=1.22", "onnx>=1.16"], "pytest": ["pytest"]}


def main() -> int:
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    name = sys.argv[1] if len(sys.argv) > 1 else "judges"
    packages = PACKAGES[name]
    own = os.environ.get("OPTC_JUDGES_DIR") if name == "judges" else None
    folder = pathlib.Path(own or target / name).absolute()
    try:
        if not folder.exists():
            say(f"installing {', '.join(packages)} into {folder}")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f"{folder.name}.part-", dir=folder.parent) as scratch:
                new = pathlib.Path(scratch) / "packages"
                options = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--target", str(new)]
                run(pip(pathlib.Path(scratch)) + ["install", *options, *packages], "installing from PyPI")
                try:
                    new.rename(folder)
                except OSError:  # another run was first
                    if not folder.exists():
                        raise
        print(folder)
        return 0
    except (Failure, OSError) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
