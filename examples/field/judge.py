#!/usr/bin/env python3
"""Opens a network as it was and as optc wrote it in the runtime of such files, compares what they compute, and times them.

    judge.py NAME ORIGINAL WRITTEN SAMPLES.npz

prints one line of JSON. It is a program of its own, so that a runtime that crashes, or that takes all the memory there is, ends
nothing else. ONNX Runtime, with its default optimisations, opens `.onnx`, PyTorch `.pt` and `.pt2`, on one thread each.
"""
import json
import pathlib
import statistics
import sys
import time
import warnings

import numpy as np

from networks import NETWORKS

warnings.filterwarnings("ignore")
ROUNDS = 15
SHORTEST = 0.01  # Seconds that one measurement takes at least.


class Onnx:
    def __init__(self, path: pathlib.Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.by = f"ONNX Runtime {onnxruntime.__version__}"
        sides = self.session.get_inputs(), self.session.get_outputs()
        self.interface = [[(value.name, value.type, [str(size) for size in value.shape]) for value in side] for side in sides]
        self.halves = [value.name for value in sides[0] if value.type == "tensor(float16)"]

    def prepare(self, sample: dict) -> dict:
        return sample | {name: sample[name].astype(np.float16) for name in self.halves}

    def run(self, prepared) -> list:
        return self.session.run(None, prepared)

    numbers = staticmethod(list)


class Torch:
    def __init__(self, path: pathlib.Path):
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self.by = f"PyTorch {torch.__version__}"
        self.tensor = torch.from_numpy
        if path.suffix == ".pt":
            self.run_all = torch.jit.load(path).eval()
            schema = self.run_all.forward.schema
            sides = schema.arguments[1:], schema.returns
            self.interface = [[(value.name, str(value.type)) for value in side] for side in sides]
        else:
            program = torch.export.load(path)
            self.run_all = program.module()
            self.interface = [list(program.graph_signature.user_inputs), len(program.graph_signature.user_outputs)]

    def prepare(self, sample: dict) -> list:
        return [self.tensor(array) for array in sample.values()]

    def run(self, prepared) -> list:
        outputs = self.run_all(*prepared)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def numbers(self, outputs) -> list:
        return [output.numpy() for output in outputs]


def opened(path: pathlib.Path) -> Onnx | Torch:
    return (Onnx if path.suffix == ".onnx" else Torch)(path)


def samples(file: pathlib.Path, inputs: tuple[str, ...]) -> list[dict]:
    """One dictionary for each sample, with a batch of one where the input has an axis for it."""
    with np.load(file) as arrays:
        arrays = dict(arrays)
    ranks = [shape.rpartition(":")[2].count("x") + 1 for shape in inputs]
    batched = [array[:, None] if array.ndim == rank else array for array, rank in zip(arrays.values(), ranks, strict=True)]
    return [dict(zip(arrays, map(np.ascontiguousarray, sample))) for sample in zip(*batched)]


def same_largest(before, after):
    return before[0].argmax() == after[0].argmax()


def same_text(before, after):
    return text(before[0]) == text(after[0])


def text(scores) -> list:
    """The most likely symbols of [1, steps, symbols], each once however long it lasts, without the blank, which is the first."""
    best = scores[0].argmax(-1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    return [symbol for symbol in best[starts].tolist() if symbol]


def near_pitch(before, after):
    return abs(int(before[0].argmax()) - int(after[0].argmax())) <= 2


def overlap(before, after, threshold: float = 0.3):
    before, after = before > threshold, after > threshold
    union = (before | after).sum()
    return (before & after).sum() / union if union else 1.0


def cosine(before, after) -> float:
    before, after = before.ravel().astype(float), after.ravel().astype(float)
    if np.array_equal(before, after):
        return 1.0
    return max(0.0, before @ after / max(np.linalg.norm(before) * np.linalg.norm(after), 1e-30))


# What networks.AGREEMENT says in words: how far two answers agree, from 0 to 1.
AGREE = {
    "class": same_largest,
    "text": same_text,
    "pitch": near_pitch,
    "text map": lambda before, after: overlap(before[0], after[0]),
    "two maps": lambda before, after: np.mean([overlap(before[0][..., map], after[0][..., map], 0.4) for map in range(2)]),
    "score": lambda before, after: max(0.0, 1 - np.abs(before[0] - after[0]).mean()),
    "cosine": lambda before, after: min(cosine(*pair) for pair in zip(before, after)),
}


def compared(agree, before: list, after: list) -> tuple[float, float]:
    """How far two answers agree, and the largest difference of an element, relative to the largest element of that output."""
    if any(x.shape != y.shape for x, y in zip(before, after, strict=True)):
        raise ValueError("an output has another shape")
    if not all(np.isfinite(output).all() for output in after):
        raise ValueError("an output is not finite")
    pairs = [(x.astype(float), y.astype(float)) for x, y in zip(before, after)]
    return float(agree(before, after)), max(float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30)) for x, y in pairs)


def times(before, after, prepared: list) -> list[float]:
    """Processor time after / before of runs that take turns: the median, and the quartiles."""

    def seconds(model, sample, runs: int) -> float:
        start = time.process_time()
        for _ in range(runs):
            model.run(sample)
        return (time.process_time() - start) / runs

    warm = [seconds(model, prepared[0], 1) for _ in range(3) for model in (before, after)]
    runs = max(1, round(SHORTEST / max(min(warm), 1e-6)))
    ratios = []
    for turn in range(ROUNDS):
        sample = prepared[turn % len(prepared)]
        order = (before, after) if turn % 2 else (after, before)
        taken = {model: seconds(model, sample, runs) for model in order}
        ratios.append(taken[after] / taken[before])
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return [median, low, high]


def judged(name: str, original: str, written: str, samples_file: str) -> dict:
    (network,) = (network for network in NETWORKS if network.name == name)
    try:
        before = opened(pathlib.Path(original))
        prepared = [before.prepare(sample) for sample in samples(pathlib.Path(samples_file), network.inputs)]
        answers = [before.numbers(before.run(sample)) for sample in prepared]
    except Exception as error:
        return {"result": "not judged", "why": f"the original: {one_line(error)}"}
    try:
        after = opened(pathlib.Path(written))
        agree = AGREE[network.agreement]
        pairs = [compared(agree, answer, after.numbers(after.run(sample))) for sample, answer in zip(prepared, answers)]
        if before.interface != after.interface:
            raise ValueError(f"other inputs or outputs: {after.interface}, and not {before.interface}")
    except Exception as error:
        return {"result": "broken", "why": one_line(error), "agreement": 0.0}
    agreements, differences = zip(*pairs)
    return {
        "result": "done",
        "runtime": before.by,
        "agreement": float(np.mean(agreements)),
        "max_rel": max(differences),
        "time": times(before, after, prepared),
    }


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    print(json.dumps(judged(*sys.argv[1:])))
