"""Every kind of model goes in, and comes out as the same kind that answers the same."""
import subprocess
import sys

import numpy as np
import pytest

import optc
from conftest import SHAPES

EXACT = "red{hash=none}"


def test_bytes_and_paths_give_the_same(run, images, tmp_path):
    x = images[0][:16]
    of_bytes = optc.optimize(SHAPES.read_bytes(), EXACT)
    of_path = optc.optimize(SHAPES, EXACT)
    written = optc.optimize(str(SHAPES), EXACT, output=tmp_path / "out.onnx")
    assert of_bytes.model == of_path.model == written.model.read_bytes()
    assert len(of_bytes.model) < SHAPES.stat().st_size
    np.testing.assert_allclose(run(of_bytes.model, x), run(SHAPES.read_bytes(), x), rtol=1e-3, atol=1e-3)
    report = of_bytes.report
    assert report["after"]["params"] < report["before"]["params"]
    assert repr(of_bytes) == f"<optc.Result of red{{hash=none}}: 113754 -> {report['after']['params']} parameters>"


def test_a_model_of_onnx_gives_one(run, images):
    onnx = pytest.importorskip("onnx")
    made = optc.optimize(onnx.load(SHAPES), EXACT)
    assert isinstance(made.model, onnx.ModelProto)
    onnx.checker.check_model(made.model)
    x = images[0][:4]
    np.testing.assert_allclose(
        run(made.model.SerializeToString(), x), run(SHAPES.read_bytes(), x), rtol=1e-3, atol=1e-3
    )


def test_inspection_needs_no_run():
    found = optc.inspect(SHAPES, input="1x3x32x32")
    assert found["params"] == 113754
    assert found["operators"]["conv"] == 16


def test_the_import_is_light():
    code = "import sys, optc; assert not {'torch', 'onnx', 'numpy', 'olive'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_module_is_the_command(tmp_path):
    command = [sys.executable, "-m", "optc"]
    out = tmp_path / "out.onnx"
    arguments = ["--passes", EXACT, "--no-measure", "--judge", "none", "-o", str(out), str(SHAPES)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout and out.exists()
    wrong = subprocess.run([*command, "--nonsense"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "--nonsense" in wrong.stderr
    assert optc.__version__ in subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
