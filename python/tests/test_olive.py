"""The pass of Olive: found by its package configuration, run, and searched over."""
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("olive")
from conftest import ROOT, SHAPES
from olive import package_config as olives
from olive.hardware import DEFAULT_CPU_ACCELERATOR
from olive.model import ONNXModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.workflows import run as olive_run

import optc
from optc import olive as ours

# Tests are no use of Olive.
os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"

# What judges: a function that Olive calls with a model and data, and the samples that it and the pass are given.
JUDGE = '''
import numpy as np
import torch
from olive.data.registry import Registry

class Shapes(torch.utils.data.Dataset):
    def __init__(self, path, count):
        arrays = np.load(path)
        self.x, self.y = arrays["x"][:count].astype(np.float32) / 255, arrays["y"][:count].astype(np.int64)
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return {"x": self.x[i]}, self.y[i]

@Registry.register_dataset()
def shapes(data_dir, count=40, **_):
    return Shapes(data_dir, count)

@Registry.register_post_process()
def largest(output, **_):
    return (output if torch.is_tensor(output) else next(iter(output.values()))).argmax(-1)
'''


@pytest.fixture
def config(tmp_path):
    """A run of Olive's with this pass; what is given goes into the pass."""
    (tmp_path / "judge.py").write_text(JUDGE)
    data = {
        "name": "shapes",
        "user_script": str(tmp_path / "judge.py"),
        "load_dataset_config": {"type": "shapes", "data_dir": str(ROOT / "examples" / "shapes_test.npz")},
        "dataloader_config": {"batch_size": 8},
        "post_process_data_config": {"type": "largest"},
    }
    accuracy = {
        "name": "accuracy",
        "type": "accuracy",
        "sub_types": [{"name": "accuracy_score", "priority": 1, "metric_config": {"task": "multiclass", "num_classes": 10}}],
        "data_config": "shapes",
    }

    def made(**parameters):
        return {
            "input_model": {"type": "ONNXModel", "model_path": str(SHAPES)},
            "data_configs": [data],
            "evaluators": {"right": {"metrics": [accuracy]}},
            "passes": {"optc": {"type": "OptcPass", "input": ["1x3x32x32"], "verify": "none", **parameters}},
            "evaluator": "right",
            "output_dir": str(tmp_path / "out"),
            "cache_dir": str(tmp_path / "cache"),
        }

    return made


def test_the_command_finds_the_pass_by_the_file(config, tmp_path, run, images):
    printed = subprocess.run([sys.executable, "-m", "optc.olive"], capture_output=True, text=True, check=True)
    path = printed.stdout.strip()
    assert pathlib.Path(path).name == "olive_config.json"
    (tmp_path / "run.json").write_text(json.dumps(config(passes="canonicalize,red{hash=none}")))
    command = [sys.executable, "-m", "olive", "run", "--config", str(tmp_path / "run.json"), "--package-config", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "out").rglob("*.onnx")
    x = images[0][:8]
    np.testing.assert_allclose(run(str(made), x), run(str(SHAPES), x), rtol=1e-3, atol=1e-3)
    assert optc.inspect(made)["params"] < optc.inspect(SHAPES)["params"]


def test_a_list_is_searched_as_the_evaluator_judges(config):
    wanted = config(passes="cut", target=["macs=0.9", "macs=0.6"], data_config="shapes", samples=16, cost="macs")
    wanted["search_strategy"] = {"execution_order": "joint", "sampler": "sequential"}
    output = olive_run(wanted, package_config=ours.package_config())
    found = output.get_output_models()
    tried = {model.model_config["model_attributes"]["optc"]["after"]["macs"] for model in found}
    before = found[0].model_config["model_attributes"]["optc"]["before"]["macs"]
    assert found and all(share <= 0.9 * before for share in tried)
    assert all(model.metrics_value["accuracy-accuracy_score"]["value"] > 0.8 for model in found)


def test_what_is_searched_is_targets_unless_the_run_says_what():
    def searched(**parameters):
        *_, space = ours.OptcPass.get_config_params(DEFAULT_CPU_ACCELERATOR, parameters)
        return {name: str(choices) for name, choices in space.items()}

    assert searched() == {"target": f"Categorical({ours.TARGETS})"}
    assert searched(keep=["cosine=0.99", "cosine=0.9"])["keep"] == "Categorical(['cosine=0.99', 'cosine=0.9'])"
    assert searched(passes="red{hash=none}") == {} and searched(keep="cosine=0.99") == {}


@pytest.mark.parametrize(
    "parameters, right",
    [
        (dict(target="macs=0.5"), True),
        (dict(target="macs=0.5", keep="cosine=0.9"), False),
        (dict(passes="lrf{flops=$flops}", flops=0.7), True),
        (dict(passes="lrf{flops=$flops}"), False),
        (dict(passes="red", flops=0.7), False),
        (dict(data="npz:a.npz", data_config={"name": "a"}), False),
    ],
)
def test_goals_that_do_not_go_together_are_dropped(parameters, right):
    made = create_pass_from_dict(ours.OptcPass, parameters, disable_search=True)
    assert ours.OptcPass.validate_config(made.config, made.accelerator_spec) == right


def test_a_pipeline_takes_its_share_from_the_search(tmp_path):
    parameters = dict(passes="lrf{flops=$flops}", flops=0.7, input=["1x3x32x32"])
    made = create_pass_from_dict(ours.OptcPass, parameters, disable_search=True)
    smaller = made.run(ONNXModelHandler(str(SHAPES)), str(tmp_path / "made"))
    said = smaller.model_attributes["optc"]
    assert said["pipeline"] == "lrf{flops=0.7}" and said["after"]["macs"] < 0.71 * said["before"]["macs"]


def test_olives_own_passes_stay_beside_it(tmp_path):
    written = tmp_path / "passes.json"
    subprocess.run([sys.executable, "-m", "optc.olive", str(written)], check=True, capture_output=True)
    found = olives.OlivePackageConfig.parse_file_or_obj(str(written))
    assert found.import_pass_module("OptcPass") is ours.OptcPass
    assert found.get_pass_module_config("OnnxConversion").module_path.startswith("olive.")
