#!/usr/bin/env python3
"""Exports networks with the PyTorch that is installed, sends them through optc, and has the same PyTorch judge the results.

    python3 examples/exported.py --optc target/release/optc

needs torch 2.6 or later and torchvision. Each network is saved as exported and as decomposed; exact pipelines must keep its
outputs within 1e-4 of the largest, others must give finite numbers of the same shapes, and what took any batch must still do.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
import torch.utils._pytree as pytree
import torchvision

warnings.filterwarnings("ignore")
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/fixtures"))
import make_exported_program as fixtures  # noqa: E402

EXACT = ["canonicalize", "red{hash=none}"]
LOSSY = ["lrf{ratio=0.3}", "red{hash=none},lrf{ratio=0.3},red{hash=none}"]
TOLERANCE = 1e-4


def randomised(model):
    """Batch norms that do something."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return model.eval()


def networks():
    """Name, network, arguments, and whether the first size is dynamic."""
    models = torchvision.models
    image, small = torch.randn(1, 3, 224, 224), torch.randn(2, 3, 64, 64)
    pair = (torch.randn(2, 4, 6), torch.randn(2, 4, 6))
    yield "Net", fixtures.mixed_up(fixtures.Net()), (torch.randn(1, 3, 16, 16),), False
    yield "Net, any batch", fixtures.mixed_up(fixtures.Net()), (torch.randn(3, 3, 16, 16),), True
    yield "Structured", fixtures.Structured().eval(), (pair, 0.5), False
    yield "Small", fixtures.mixed_up(fixtures.Small()), (torch.randn(2, 4),), True
    yield "resnet18", randomised(models.resnet18()), (small,), True
    yield "mobilenet_v3_small", randomised(models.mobilenet_v3_small()), (small,), False
    yield "shufflenet_v2_x0_5", randomised(models.shufflenet_v2_x0_5()), (small,), True
    yield "densenet121", randomised(models.densenet121()), (small,), False
    yield "swin_t", randomised(models.swin_t()), (image,), False
    yield "vit_b_16", randomised(models.vit_b_16()), (image,), False
    lraspp = models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None)
    yield "lraspp_mobilenet_v3_large", randomised(lraspp), (image,), False
    yield "r3d_18", randomised(models.video.r3d_18()), (torch.randn(1, 3, 4, 64, 64),), False


def outputs(path, args):
    with torch.no_grad():
        result = torch.export.load(path).module()(*args)
    return [x for x in pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]


def judge(optc, before, expected, folder, passes, args, dynamic):
    """What is wrong with the file that optc makes; `None` for nothing."""
    after = f"{folder}/after.pt2"
    shape = ["--input", "x".join(map(str, args[0].shape))] if isinstance(args[0], torch.Tensor) else []
    command = [optc, "--passes", passes, *shape, "--no-verify", "-q", "-o", after, before]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return run.stderr.strip()
    found = outputs(after, args)
    if [x.shape for x in expected] != [x.shape for x in found]:
        return "other shapes"
    for x, y in zip(expected, found):
        if not y.isfinite().all():
            return "not finite"
        apart = float((x.double() - y.double()).abs().max() / max(float(x.double().abs().max()), 1e-12))
        if passes in EXACT and apart > TOLERANCE:
            return f"{apart:.1e} apart"
    if dynamic and outputs(after, (torch.randn(5, *args[0].shape[1:]),))[0].shape[0] != 5:
        return "another batch gives other shapes"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optc", default=str(ROOT / "target/release/optc"))
    optc = parser.parse_args().optc
    torch.manual_seed(0)
    right, wrong = 0, 0
    for name, model, args, dynamic in networks():
        sizes = ({0: torch.export.Dim("batch", min=1, max=64)},) if dynamic else None
        exported = torch.export.export(model, args, dynamic_shapes=sizes)
        for way, program in [("exported", exported), ("decomposed", exported.run_decompositions())]:
            with tempfile.TemporaryDirectory() as folder:
                before = f"{folder}/before.pt2"
                torch.export.save(program, before)
                expected = outputs(before, args)
                for passes in EXACT + LOSSY:
                    try:
                        why = judge(optc, before, expected, folder, passes, args, dynamic)
                    except Exception as error:
                        why = f"{type(error).__name__}: {error}"
                    right, wrong = right + (why is None), wrong + (why is not None)
                    if why:
                        print(f"{name}, {way}, {passes}: {why}", flush=True)
    print(f"PyTorch {torch.__version__}: {right} files are right, {wrong} are not")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
