"""What the tests share: the repository's small trained network, and how to run it."""
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = ROOT / "examples" / "shapes.onnx"


@pytest.fixture(scope="session")
def images():
    """Test images as the network takes them, and their classes."""
    arrays = np.load(ROOT / "examples" / "shapes_test.npz")
    return (arrays["x"] / np.float32(255)).astype(np.float32), arrays["y"].astype(np.int64)


@pytest.fixture(scope="session")
def run():
    """A function that gives what a network answers in ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def answers(model: bytes, x):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (name,) = (given.name for given in session.get_inputs())
        return session.run(None, {name: x})[0]

    return answers
