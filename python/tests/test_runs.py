"""Samples in memory, progress, the end of a run, and what is said of mistakes."""
import subprocess
import sys
import threading

import numpy as np
import pytest

import optc
from conftest import SHAPES

# A network in the text form, with sizes that take no time.
NET = b"""graph net(%x: f32[N,1,8,8]) {
  @a.weight = parameter normal(1) : f32[16,1,3,3]
  @b.weight = parameter normal(2) : f32[16,16,3,3]
  @c.weight = parameter normal(3) : f32[10,16]
  %a = conv(%x, @a.weight)
  %b = conv(%a, @b.weight)
  %f = relu(%b)
  %g = mean(%f) {axes=[2,3], keep=false}
  %y = linear(%g, @c.weight)
  return %y
}
"""
LOSSY = "lowrank{macs=0.8}"


def samples(count):
    """Samples for the network, and classes."""
    random = np.random.default_rng(0)
    return random.standard_normal((count, 1, 8, 8), np.float32), random.integers(0, 10, count)


def batches(x, y, size=8):
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def test_samples_are_arrays_dicts_or_batches():
    x, y = samples(12)
    made = [
        optc.optimize(NET, LOSSY, data=given, samples=8, input="1x1x8x8")
        for given in (x, {"x": x}, batches(x, y), np.asfortranarray(x))
    ]
    assert len({result.model for result in made}) == 1
    calibration = made[0].report["calibration"]
    assert calibration["samples"] == 8 and calibration["used"]


def test_answers_are_compared_on_labelled_data(images):
    x, y = images[0][:40], images[1][:40]
    report = optc.optimize(SHAPES, "fold-batch-norm", eval=(pair for pair in [(x, y)]), verify="none").report
    assert report["eval"]["samples"] == 40 and report["eval"]["agreement"] == 1
    assert report["eval"]["top1_before"] > 0.9


def test_of_batches_no_more_are_taken_than_asked_for():
    x, y = samples(100)
    taken = []

    def watched():
        for batch in batches(x, y):
            taken.append(len(batch[0]))
            yield batch

    optc.optimize(NET, LOSSY, data=watched(), samples=8, input="1x1x8x8")
    assert sum(taken) == 16


def test_data_may_be_a_file(tmp_path):
    np.savez(tmp_path / "data.npz", x=samples(16)[0])
    made = optc.optimize(NET, LOSSY, data=tmp_path / "data.npz", input="1x1x8x8")
    assert made.report["calibration"]["used"]


def test_progress_is_told_and_may_end_the_run():
    steps = []
    optc.optimize(NET, progress=lambda *step: steps.append(step), verify="none", seed=3)
    assert {step[0] for step in steps} == {"canonicalize", "red"}
    assert all(0 <= fraction <= 1 for *_, fraction in steps)

    class Enough(Exception):
        pass

    def end(*_):
        raise Enough

    with pytest.raises(Enough):
        optc.optimize(NET, progress=end)


def test_ctrl_c_ends_the_run():
    code = f"""
import os, signal, threading, optc
threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for _ in range(1000):
        optc.optimize({str(SHAPES)!r}, "red,lrf,lowrank,cut", input="1x3x32x32")
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n", done.stderr


def test_other_threads_run_meanwhile():
    counted = []
    ended = threading.Event()

    def count():
        while not ended.wait(0.001):
            counted.append(1)

    counting = threading.Thread(target=count)
    counting.start()
    optc.optimize(SHAPES, "red{hash=none}")
    ended.set()
    counting.join()
    assert len(counted) > 10


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (optc.UsageError, "did you mean|red", dict(passes="rde")),
        (optc.UsageError, "one of both", dict(target="macs=0.5", keep="cosine=0.9")),
        (optc.UsageError, "is not a size", dict(input="1xa")),
        (optc.UsageError, "unknown variant", dict(cost="memory")),
        (FileNotFoundError, "nowhere.onnx", dict(model="nowhere.onnx")),
        (optc.ModelError, "empty", dict(model=b"")),
        (optc.UsageError, "no model that optc takes", dict(model=3)),
        (optc.DataError, "is empty", dict(data=np.zeros((0, 3, 32, 32), np.float32))),
        (optc.DataError, "of the type <c8", dict(data=np.zeros((2, 3, 32, 32), np.complex64))),
        (optc.DataError, "is no data", dict(data=3)),
        (optc.DataError, "no batches", dict(data=[])),
        (optc.Error, "the network's input", dict(data=np.zeros((8, 5, 32, 32), np.float32))),
    ],
)
def test_mistakes_are_classes_with_a_text(error, words, arguments):
    with pytest.raises(error, match=words):
        optc.optimize(**{"model": SHAPES, **arguments})
