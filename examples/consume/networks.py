"""Networks that compilers are tried on: made once, saved in each format, with an input and samples."""
import collections
import pathlib
import shutil

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 0

# `files` by suffix; `inputs` by name, for one run; `data` is what optc's --data takes.
Network = collections.namedtuple("Network", "name files inputs data")


def copied(*layers):
    """Makes the last eighth of what layers give copies of the first: what exact passes are to find."""
    for layer in layers:
        for values in layer.state_dict().values():
            if values.dim():
                some = len(values) // 8
                values[-some:] = values[:some]


def resnet18():
    """torchvision's, with random weights, copies within blocks, and batch norms that do something."""
    import torch
    import torchvision

    torch.manual_seed(SEED)
    model = torchvision.models.resnet18()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    for block in model.modules():
        if isinstance(block, torchvision.models.resnet.BasicBlock):
            copied(block.conv1, block.bn1)
    return model.eval(), {"x": torch.randn(1, 3, 224, 224)}, {"x": torch.randn(32, 3, 224, 224)}


def encoder(words=1000, width=128, blocks=4, length=64):
    """A small transformer over words, of which it tells ten classes."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, heads=4):
            super().__init__()
            self.heads = heads
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
            self.asks = nn.Linear(width, 3 * width)
            self.joins = nn.Linear(width, width)
            self.widens, self.narrows = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            copied(self.widens)

        def forward(self, x):
            batch, length, _ = x.shape
            parts = self.asks(self.norms[0](x)).reshape(batch, length, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + self.joins(mixed.transpose(1, 2).reshape(batch, length, width))
            return x + self.narrows(nn.functional.gelu(self.widens(self.norms[1](x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(words, width)
            self.places = nn.Parameter(torch.randn(length, width))
            self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
            self.norm, self.classes = nn.LayerNorm(width), nn.Linear(width, 10)

        def forward(self, tokens):
            return self.classes(self.norm(self.blocks(self.words(tokens) + self.places)).mean(1))

    torch.manual_seed(SEED)
    made = Encoder().eval()
    tokens = torch.randint(0, words, (65, length))
    return made, {"tokens": tokens[:1]}, {"tokens": tokens[1:]}


MADE = {"resnet18": resnet18, "encoder": encoder}


def saved(name, folder):
    """One of `MADE` in each format that PyTorch writes; what is there already stays."""
    files = {suffix: folder / f"{name}{suffix}" for suffix in (".onnx", ".pt", ".pt2")}
    kept, data = folder / f"{name}.inputs.npz", folder / f"{name}.npz"
    if all(file.exists() for file in (kept, data, *files.values())):
        return Network(name, files, dict(np.load(kept)), f"npz:{data}")
    import torch

    model, inputs, samples = MADE[name]()
    given = tuple(inputs.values())
    with torch.no_grad():
        torch.onnx.export(model, given, files[".onnx"], input_names=list(inputs), dynamo=True, external_data=False)
        torch.jit.save(torch.jit.trace(model, given), files[".pt"])
        torch.export.save(torch.export.export(model, given), files[".pt2"])
    np.savez(data, **{key: value.numpy() for key, value in samples.items()})
    arrays = {key: value.numpy() for key, value in inputs.items()}
    np.savez(kept, **arrays)
    return Network(name, files, arrays, f"npz:{data}")


def shapes(folder):
    """The small trained network of this repository."""
    files = {}
    for suffix in (".onnx", ".pt"):
        files[suffix] = folder / f"shapes{suffix}"
        shutil.copy(ROOT / "examples" / f"shapes{suffix}", files[suffix])
    test = ROOT / "examples" / "shapes_test.npz"
    pixels = np.load(test)["x"][:1].astype(np.float32) / np.float32(255)
    return Network("shapes", files, {"x": pixels}, f"npz:{test},mean=0,std=1")


def given(path, shape):
    """A model of somebody's: of one input of numbers, for which there is noise."""
    path = pathlib.Path(path).resolve()
    sizes = [int(size) for size in shape.split("x")]
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
        held = {value.name for value in graph.initializer}
        names = [value.name for value in graph.input if value.name not in held]
        if len(names) != 1:
            raise SystemExit(f"{path} has the inputs {', '.join(names)}; it takes a model with one")
        (name,) = names
    else:
        name = "x"
    noise = np.random.default_rng(SEED).standard_normal(sizes).astype(np.float32)
    return Network(path.stem, {path.suffix: path}, {name: noise}, None)


def made(name, folder):
    """A network by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    return shapes(folder) if name == "shapes" else saved(name, folder)
