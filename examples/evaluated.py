"""optc's report on a model whose answers are evaluated, for the tables of prune.py and market.py."""
import argparse
import json
import subprocess
import tempfile
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that such tables have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--optc", default="optc")
    parser.add_argument("--data", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--samples", default="400")
    parser.add_argument("--input", default="1x3x32x32")
    return parser


def report(arguments: argparse.Namespace, model: str, passes: str, *options: str, with_data: bool = True) -> dict:
    """The report; fails with what optc says where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        output = Path(folder) / ("out" + Path(model).suffix)
        data = ["--data", arguments.data, "--samples", arguments.samples] if with_data else []
        command = [arguments.optc, "--quiet", "--passes", passes, *options, "--input", arguments.input, *data, "--eval",
                   arguments.eval, "--judge", "none", "--no-verify", "--report", str(path), "-o", str(output), model]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return json.loads(path.read_text())


def seconds(report: dict) -> float:
    """How long the passes took."""
    return sum(step["seconds"] for step in report["passes"])
