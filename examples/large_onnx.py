#!/usr/bin/env python3
"""Makes an ONNX model of 3 GB with its weights in a file beside it, runs optc on it, and says how much memory that took.

    cargo build --release
    python3 examples/large_onnx.py --optc target/release/optc

Needs numpy and onnx, Linux, and 7 GB of disk under --folder; where onnxruntime is installed it opens what was written.

Four 3x3 convolutions, then linear layers: `Gemm` with the weight as [outputs, inputs], and `MatMul` with [inputs, outputs] and a
sum, by turns. Weights are random, 134 MB in the largest layer. `--equal` makes a quarter of the neurons of one layer equal to
others, so that `red` has something to merge.

Peaks are those of the process, in MB: `anonymous` is its own memory, `mapped` are pages of files that the system could drop at
any time, and `resident` is the most that both were together (VmHWM). Anonymous and mapped are sampled every 5 ms."""

import argparse
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper

CHANNELS, NARROW, WIDE = 1920, 4096, 8192
BLOCK = 1 << 22


class Weights:
    """The file beside the model, written as it comes."""

    def __init__(self, folder):
        self.file = open(folder / "large.onnx.data", "wb")
        self.random = np.random.default_rng(0)
        self.tensors = []
        self.bytes = 0

    def add(self, name, shape, scale, equal=False):
        """A tensor of random numbers; with `equal` every fourth row is the first."""
        offset = self.file.tell()
        row = int(np.prod(shape[1:], dtype=np.int64))
        step = max(1, BLOCK // row)
        first = None
        for start in range(0, shape[0], step):
            rows = min(step, shape[0] - start)
            part = self.random.standard_normal((rows, row), dtype=np.float32) * np.float32(scale)
            if equal:
                first = part[0].copy() if first is None else first
                part[(start + np.arange(rows)) % 4 == 3] = first
            self.file.write(part.tobytes())
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = self.file.tell() - offset
        for key, value in [("location", "large.onnx.data"), ("offset", offset), ("length", length)]:
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        self.bytes += length
        return name


def make(folder, linear, equal):
    """Writes the model; gives its path and the bytes of its largest weight."""
    weights, nodes = Weights(folder), []

    def node(op, inputs, name, **attributes):
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    x = "x"
    for i in range(4):
        w = weights.add(f"conv{i}.weight", [CHANNELS, CHANNELS, 3, 3], (2 / 9 / CHANNELS) ** 0.5)
        b = weights.add(f"conv{i}.bias", [CHANNELS], 0.1)
        x = node("Relu", [node("Conv", [x, w, b], f"conv{i}", pads=[1, 1, 1, 1])], f"relu{i}")
    x = node("Flatten", [node("GlobalAveragePool", [x], "pool")], "flat")
    inputs = CHANNELS
    for i in range(linear):
        outputs = NARROW if i % 2 else WIDE
        scale = (2 / inputs) ** 0.5
        name = f"linear{i}"
        if i % 2:
            w = weights.add(f"{name}.weight", [inputs, outputs], scale)
            b = weights.add(f"{name}.bias", [outputs], 0.1)
            x = node("Add", [node("MatMul", [x, w], f"{name}.product"), b], name)
        else:
            same = equal and i == 2
            w = weights.add(f"{name}.weight", [outputs, inputs], scale, same)
            b = weights.add(f"{name}.bias", [outputs], 0.0 if same else 0.1)
            x = node("Gemm", [x, w, b], name, transB=1)
        x, inputs = node("Relu", [x], f"{name}.relu"), outputs
    weights.file.close()
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "large", [value("x", ["N", CHANNELS, 2, 2])], [value(x, ["N", inputs])], weights.tensors
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path = folder / "large.onnx"
    path.write_bytes(model.SerializeToString())
    sizes = [4 * int(np.prod(t.dims)) for t in weights.tensors]
    print(f"{path}: {weights.bytes / 1e6:.0f} MB of weights, {max(sizes) / 1e6:.0f} MB the largest")
    return path


def peaks(command):
    """Runs a command; gives its exit status, seconds, and the peaks of its memory in MB."""
    most = {"VmHWM": 0, "RssAnon": 0, "RssFile": 0}
    start = time.time()
    process = subprocess.Popen(command)
    while process.poll() is None:
        try:
            lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            key, _, value = line.partition(":")
            if key in most:
                most[key] = max(most[key], int(value.split()[0]) * 1024 / 1e6)
        time.sleep(0.005)
    return process.returncode, time.time() - start, most


def opens(path):
    try:
        import onnxruntime
    except ImportError:
        return "not tried, no onnxruntime"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, 2, 2)).astype(np.float32)
    return session.run(None, {"x": x})[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optc", default="target/release/optc")
    parser.add_argument("--folder", help="where the files are made; removed afterwards")
    parser.add_argument("--linear", type=int, default=20, help="how many linear layers; fewer for a smaller file")
    parser.add_argument("--equal", action="store_true", help="make some neurons equal")
    parser.add_argument("--passes", nargs="*", default=["canonicalize", "red{hash=none}"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="large-onnx-") as folder:
        folder = pathlib.Path(folder)
        path, out = make(folder, arguments.linear, arguments.equal), folder / "out.onnx"
        before = opens(path)
        for passes in arguments.passes:
            for further in [["--no-verify"], ["--input", f"1x{CHANNELS}x2x2"]]:
                command = [arguments.optc, "-q", "--passes", passes, *further, "-o", str(out), str(path)]
                status, seconds, most = peaks(command)
                after = opens(out) if status == 0 else "failed"
                if isinstance(after, np.ndarray):
                    after = f"{np.abs(after - before).max() / np.abs(before).max():.1e} from the original"
                print(
                    f"{passes:20} {' '.join(further):22} exit {status}, {seconds:5.1f} s, "
                    f"resident {most['VmHWM']:4.0f} MB (anonymous {most['RssAnon']:.0f}, mapped {most['RssFile']:.0f}); "
                    f"ONNX Runtime: {after}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
