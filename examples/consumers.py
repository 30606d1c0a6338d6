#!/usr/bin/env python3
"""Has compilers and runtimes take what optc writes: benches/CONSUMERS.md.

    consumers.py --optc target/release/optc --results FILE.json --table benches/CONSUMERS.md [--no-time] [MODEL..]

Every network is compiled and run by every consumer that is installed, as it was and as each pipeline leaves it, in each format that
the consumer takes. What it computes is compared with what the same file computes in ONNX Runtime without its optimisations, or in
PyTorch. Then all files of a network that a consumer runs are timed in turns, with one thread. `MODEL` is resnet18, encoder, shapes or
a file, for which `--input` says the shape. A consumer that cannot be asked is named, and one that crashes ends nothing.

What is done is kept in the results file, and is not done again: versions of which some need a Python of their own (`--python
executorch=venv/bin/python`) may be asked one after another. Networks and files are kept beside it.
"""
import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

import numpy as np

from consume import networks
from consume.runtimes import CONSUMERS
from consume.turns import fill, milliseconds, ratio

WORKER = pathlib.Path(__file__).resolve().parent / "consume" / "runtimes.py"
PIPELINES = {
    "before": None,
    "exact": "canonicalize,red{hash=none}",
    "separated": "red{hash=kernel,flops=0.7}",
    "lrf": "lrf{flops=0.7}",
    "cut": "within{macs=0.7}(cut)",
}
# Where layers are linear `lrf` takes those, too.
OF_NETWORK = {"encoder": {"lrf": "lrf{flops=0.7,scope=all}"}}
# What counts as the same, relative to the largest element of an output.
TOLERANCE = 1e-3


class Results:
    """What was found, in a file that is written after each step."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.found = json.loads(self.path.read_text()) if self.path.exists() else {}

    def part(self, name):
        return self.found.setdefault(name, {})

    def once(self, part, key, find):
        """What `find` gives; from the file where it is there already."""
        if key not in self.part(part):
            self.part(part)[key] = find()
            self.write()
        return self.part(part)[key]

    def write(self):
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.found, indent=1))
        os.replace(new, self.path)


def last_line(text):
    """What a tool says is wrong: the last line that has an error's form, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if WRONG.search(line) and "CalledProcessError" not in line]
    return (named or lines or ["nothing"])[-1][:300]


# An exception of Python's, an error of a compiler's, an operator that ncnn has not.
WRONG = re.compile(r"^[\w.]*(Error|Exception): |\berror: |^error|not exists or registered")


def ask(options, consumer, *arguments, files=1):
    """What the worker says, or `{"error": ..}`; as many times the limit as there are files to compile."""
    environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "TVM_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), "1")}
    what, *rest = arguments
    python = os.path.abspath(options.python.get(consumer, sys.executable))
    environment["PATH"] = os.pathsep.join([os.path.dirname(python), os.environ["PATH"]])
    command = [python, WORKER, what, consumer, *map(str, rest)]
    limit = files * options.limit
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:.0f} s"}
    if done.returncode < 0:
        return {"error": f"ended by signal {-done.returncode}"}
    if done.returncode:
        return {"error": last_line(done.stderr)}
    return json.loads(done.stdout.strip().splitlines()[-1])


def optimised(options, results, network, suffix, name):
    """The file that optc writes by this pipeline, and its multiply-adds; or why there is none."""
    source, pipeline = network.files[suffix], OF_NETWORK.get(network.name, PIPELINES).get(name, PIPELINES[name])
    if pipeline is None:
        return {"file": str(source)}
    output = options.folder / f"{network.name}-{name}{suffix}"

    def run():
        report = output.with_suffix(".json")
        data = ["--data", network.data] if network.data else []
        shape = "x".join(map(str, next(iter(network.inputs.values())).shape))
        command = [options.optc, "--passes", pipeline, "--input", shape, *data, "--no-measure", "--quiet", "--report", report]
        done = subprocess.run([*command, "-o", output, source], capture_output=True, text=True)
        if done.returncode:
            return {"error": last_line(done.stderr)}
        said = json.loads(report.read_text())
        return {"file": str(output), "macs": said["after"]["macs"] / said["before"]["macs"], "params": said["after"]["params"]}

    return results.once("files", f"{network.name} {suffix} {name}", run)


def checked(options, consumer, network, file):
    """How far what the consumer computes is from the reference, relative to the largest element."""
    outputs = {}
    for who in ("reference", consumer):
        out = options.folder / f"{pathlib.Path(file).name}.{who}.npz"
        if who != "reference" or not out.exists():
            said = ask(options, who, "run", options.folder / f"{network.name}.inputs.npz", file, out)
            if "error" in said:
                return said if who == consumer else {"error": f"the reference: {said['error']}"}
        outputs[who] = list(np.load(out).values())
    (options.folder / f"{pathlib.Path(file).name}.{consumer}.npz").unlink()
    pairs = list(zip(outputs["reference"], outputs[consumer]))
    if len(outputs["reference"]) != len(outputs[consumer]) or any(x.size != y.size for x, y in pairs):
        return {"error": f"other shapes: {[x.shape for x, _ in pairs]} and {[y.shape for _, y in pairs]}"}
    apart = [np.abs(x - y.reshape(x.shape)).max() / max(np.abs(x).max(), 1e-12) for x, y in pairs]
    return {"apart": float(max(apart))}


def consume(options, results, consumer, network):
    """Checks and times what the consumer takes of a network."""
    for suffix in (suffix for suffix in CONSUMERS[consumer].formats if suffix in network.files):
        right = {}
        for name in PIPELINES:
            made = optimised(options, results, network, suffix, name)
            if "error" in made or made.get("macs") == 1 and name != "exact":
                continue
            key = f"{consumer} {network.name} {suffix} {name}"
            found = results.once("checks", key, lambda: checked(options, consumer, network, made["file"]))
            print(f"{key}: {found}", flush=True)
            if "apart" in found:
                right[name] = made["file"]
        if options.time and right:
            key = f"{consumer} {network.name} {suffix}"
            print(f"{key}: {results.once('times', key, lambda: in_turns(options, consumer, network, right))}"[:200], flush=True)


def in_turns(options, consumer, network, files):
    """What the files take, turn by turn, by the pipeline that made them."""
    inputs = options.folder / f"{network.name}.inputs.npz"
    said = ask(options, consumer, "time", inputs, options.seconds, *files.values(), files=len(files))
    return said if "error" in said else dict(zip(files, said["times"]))


def cell(results, consumer, network, suffix, name):
    """How far from the reference, and how long it takes."""
    key = f"{consumer} {network} {suffix}"
    made = results.part("files").get(f"{network} {suffix} {name}", {})
    if "error" in made:
        return "optc: refused"
    found = results.part("checks").get(f"{key} {name}")
    if found is None:
        return "left alone" if made.get("macs") == 1 else ""
    if "error" in found:
        return "**refused**"
    apart = f"{found['apart']:.0e}" if found["apart"] <= TOLERANCE else f"**{found['apart']:.0e}**"
    times = results.part("times").get(key, {})
    if "error" in times:
        return f"{apart}, not timed"
    if name not in times:
        return apart
    if name == "before" or "before" not in times:
        return f"{apart}, {milliseconds(times[name])}"
    return f"{apart}, {ratio(times[name], times['before'])}"


def left(results, network, suffix):
    """The share of the multiply-adds that each pipeline leaves."""
    shares = {name: results.part("files").get(f"{network} {suffix} {name}", {}).get("macs") for name in PIPELINES}
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items() if share is not None)


def table(results):
    """All that was found, as Markdown."""
    seen = collections.OrderedDict()
    for key in results.part("checks"):
        consumer, network, suffix, _ = key.split(" ")
        seen.setdefault(network, {})[(list(CONSUMERS).index(consumer), consumer, suffix)] = None
    lines = [line for line in [about(results)] if line]
    for network, rows in seen.items():
        suffixes = sorted({suffix for _, _, suffix in rows})
        lines += ["", f"### {network}", ""]
        lines += [f"Multiply-adds left in `{suffix}`: {left(results, network, suffix)}.\\" for suffix in suffixes]
        lines[-1] = lines[-1].rstrip("\\")
        lines += ["", "| consumer | of | " + " | ".join(PIPELINES) + " |", "| --- | --- " + "| --: " * len(PIPELINES) + "|"]
        for _, consumer, suffix in sorted(rows):
            cells = [cell(results, consumer, network, suffix, name) for name in PIPELINES]
            lines.append(f"| {CONSUMERS[consumer].label} | `{suffix}` | " + " | ".join(cells) + " |")
    return "\n".join(lines + refusals(results))


def about(results):
    """Who was asked, in which version, and who could not be."""
    said = results.part("versions")
    here = [
        f"{CONSUMERS[name].label} ({', '.join(f'{package} {version}' for package, version in found.items())})"
        for name, found in said.items()
        if "error" not in found
    ]
    missing = [CONSUMERS[name].label for name, found in said.items() if "error" in found]
    machine = results.part("machine")
    lines = [f"{machine.get('date', '')}; {machine.get('processor', '')}, {machine.get('optc', '')}. Asked: {'; '.join(here)}."]
    if missing:
        lines.append(f"Not installed, and so not asked: {', '.join(missing)}.")
    return "\n".join(lines)


def refusals(results):
    """What consumers, and optc, said of what they do not take: once for each reason."""
    reasons = collections.OrderedDict()
    for key, found in results.part("files").items():
        if "error" in found:
            network, suffix, name = key.split(" ")
            reasons.setdefault(("optc", found["error"]), []).append(f"{network} `{suffix}` {name}")
    for key, found in [*results.part("checks").items(), *results.part("times").items()]:
        if "error" in found:
            consumer, *what = key.split(" ")
            what[1] = f"`{what[1]}`"
            reasons.setdefault((CONSUMERS[consumer].label, found["error"]), []).append(" ".join(what))
    if not reasons:
        return []
    said = [f"- {who}: {', '.join(where)}: {why.replace('|', '/')}" for (who, why), where in reasons.items()]
    return ["", "### Refused", "", *said]


def processor():
    """The processor's name."""
    cpus = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", cpus.read_text() if cpus.exists() else "", re.MULTILINE)
    return found.group(1).strip() if found else platform.processor()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["resnet18", "encoder", "shapes"], metavar="MODEL")
    parser.add_argument("--optc", default="optc")
    parser.add_argument("--results", default="consumers/results.json", type=pathlib.Path)
    parser.add_argument("--table", metavar="FILE.md", help="puts the tables into this file")
    parser.add_argument("--input", default="1x3x224x224", help="the shape for models that are files")
    parser.add_argument("--consumers", default=",".join(name for name in CONSUMERS if name != "reference"))
    parser.add_argument("--python", action="append", default=[], metavar="CONSUMER=PYTHON", help="what runs this consumer")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a consumer may take for a file")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of turns for a network in a consumer")
    parser.add_argument("--no-time", dest="time", action="store_false", help="only compare")
    options = parser.parse_args()
    options.folder = options.results.resolve().parent
    options.python = dict(pair.split("=", 1) for pair in options.python)
    return options


def prepared(options, model):
    """The network, with its input in a file."""
    known = model in networks.MADE or model == "shapes"
    network = networks.made(model, options.folder) if known else networks.given(model, options.input)
    kept = options.folder / f"{network.name}.inputs.npz"
    if not kept.exists():
        np.savez(kept, **network.inputs)
    return network


def main():
    options = arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.results)
    said = subprocess.run([options.optc, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    results.part("machine").update(date=str(datetime.date.today()), processor=processor(), optc=said)
    prepare = [prepared(options, model) for model in options.models]
    for consumer in options.consumers.split(","):
        found = results.part("versions")[consumer] = ask(options, consumer, "versions")
        if "error" in found:
            print(f"{consumer}: not asked: {found['error']}", flush=True)
            continue
        for network in prepare:
            consume(options, results, consumer, network)
    results.write()
    if options.table:
        fill(options.table, "consumers.py", table(results))


if __name__ == "__main__":
    main()
