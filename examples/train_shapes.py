#!/usr/bin/env python3
"""Draw a small image-classification problem, train a small residual network on it, and write both beside this file.

    python3 train_shapes.py [--out DIR] [--epochs 8] [--threads 1]        needs torch and numpy

The images are drawn here, 32x32 in colour: ten kinds of shape and texture at random places, sizes, angles and colours,
under noise. Each batch norm's pairs (scale, shift) are trained under a group lasso by proximal steps, after network
slimming (Liu et al. 2017, which takes the scale alone), so some channels end exactly zero: nothing is removed or edited
after training. Batch norm stays unfolded in the file, which takes inputs in [0, 1] and any batch.

Writes shapes.pt (traced TorchScript) and shapes_test.npz (x: u8[N,3,32,32], y: i64[N]; x/255 is the network's input).
"""
import argparse
import pathlib
import time

import numpy as np
import torch
from torch import nn

KINDS = ["disc", "ring", "square", "triangle", "cross", "bars", "stripes", "checks", "dots", "rays"]
SIDE = 32
TRAIN, VALIDATION, TEST, KEPT = 20_000, 2_000, 4_000, 350


def triangle(u, v, r):
    """Signed distance to an equilateral triangle (Quilez)."""
    k = np.sqrt(3.0)
    u, v = np.abs(u) - r, v + r / k
    fold = u + k * v > 0
    u, v = np.where(fold, (u - k * v) / 2, u), np.where(fold, (-k * u - v) / 2, v)
    u = u - np.clip(u, -2 * r, 0)
    return -np.hypot(u, v) * np.sign(v)


def box(u, v, w, h):
    return np.maximum(np.abs(u) - w, np.abs(v) - h)


def draw(count: int, seed: int):
    """`count` images, u8[count,3,32,32] with 4 bits a channel, and their classes, the same number of each."""
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(count) % len(KINDS))

    def draws(low, high):
        return rng.uniform(low, high, (count, 1, 1))

    y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
    x, y = x[None] - draws(-5, 5), y[None] - draws(-5, 5)
    angle, r, thick = draws(0, 2 * np.pi), draws(4.5, 9), draws(1.2, 2.2)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    period, radius = draws(5, 9), np.hypot(u, v)
    wave = 2 * np.pi / period
    sectors = np.round(draws(2.5, 5.5))
    signed = [
        radius - r,
        np.abs(radius - r) - thick,
        box(u, v, 0.85 * r, 0.85 * r),
        triangle(u, v, 1.1 * r),
        np.minimum(box(u, v, r, 0.3 * r), box(u, v, 0.3 * r, r)),
        np.minimum(box(u, v - 0.55 * r, r, 0.3 * r), box(u, v + 0.55 * r, r, 0.3 * r)),
        np.sin(wave * u) / wave,
        np.sin(wave * u) * np.sin(wave * v) / wave * 1.5,
        np.hypot((u + 100 * period) % period - period / 2, (v + 100 * period) % period - period / 2) - 0.3 * period,
        np.sin(sectors * np.arctan2(v, u)) * np.maximum(radius, 1) / sectors,
    ]
    distance = np.choose(kind[:, None, None], signed)
    ink = np.clip(0.5 - distance, 0, 1)[:, None]  # one pixel of blur at the edge

    back = rng.uniform(0, 1, (count, 3, 1, 1))
    direction = np.abs(rng.normal(size=(count, 3, 1, 1))) * np.sign(0.5 - back)  # away from the nearer end of the range
    fore = back + direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(0.15, 0.8, (count, 1, 1, 1))
    tilt = rng.normal(0, 0.006, (count, 3, 1, 1)) * u[:, None] + rng.normal(0, 0.006, (count, 3, 1, 1)) * v[:, None]
    image = back + (fore - back) * ink + tilt + rng.normal(0, 0.07, (count, 3, SIDE, SIDE))
    image = np.clip(image - np.clip(image.mean((2, 3), keepdims=True) - 0.75, 0, None), 0, 1)
    return (np.floor(image * 15.999) * 16 + 8).astype(np.uint8), kind.astype(np.int64)


class Block(nn.Module):
    """Two 3x3 convolutions and the identity, or a 1x1 where the shape changes."""

    def __init__(self, wide: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or wide != out:
            self.shortcut = nn.Sequential(nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Branches(nn.Module):
    """A 1x1 and a 3x3 convolution of the same input, side by side."""

    def __init__(self, wide: int, narrow: int):
        super().__init__()
        self.squeeze, self.bn0 = nn.Conv2d(wide, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.left, self.bn1 = nn.Conv2d(narrow, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.right, self.bn2 = nn.Conv2d(narrow, narrow, 3, 1, 1, bias=False), nn.BatchNorm2d(narrow)

    def forward(self, x):
        x = torch.relu(self.bn0(self.squeeze(x)))
        return torch.cat([torch.relu(self.bn1(self.left(x))), torch.relu(self.bn2(self.right(x)))], 1)


class ShapeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.stage1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
        self.stage2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.stage3 = Block(32, 64, 2)
        self.branches = Branches(64, 32)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, len(KINDS))

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        x = self.branches(self.stage3(self.stage2(self.stage1(x))))
        return self.fc(self.pool(x).flatten(1))


def norms(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


@torch.no_grad()
def shrink(model, step: float) -> None:
    """The proximal operator of step * sum over channels of |(scale, shift)|: a short enough pair becomes zero."""
    for norm in norms(model).values():
        length = torch.hypot(norm.weight, norm.bias).clamp_min(1e-12)
        keep = (1 - step / length).clamp_min(0)
        norm.weight.mul_(keep)
        norm.bias.mul_(keep)


def batch(x, index):
    return torch.from_numpy(x[index]).float() / 255


@torch.no_grad()
def top1(model, x, y) -> float:
    model.eval()
    right = sum(int((model(batch(x, slice(i, i + 500))).argmax(1).numpy() == y[i : i + 500]).sum()) for i in range(0, len(x), 500))
    return 100 * right / len(x)


def train(model, x, y, held_out, args) -> None:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0}], lr=args.rate, momentum=0.9, nesterov=True
    )
    steps = args.epochs * (len(x) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, total_steps=steps, pct_start=0.15, cycle_momentum=False)
    rng = np.random.default_rng(1)
    for epoch in range(args.epochs):
        started, model = time.time(), model.train()
        order, total = rng.permutation(len(x)), 0.0
        for i in range(0, len(x) - args.batch + 1, args.batch):
            index = order[i : i + args.batch]
            loss = nn.functional.cross_entropy(model(batch(x, index)), torch.from_numpy(y[index]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            shrink(model, schedule.get_last_lr()[0] * args.sparsity)
            schedule.step()
            total += loss.item()
        dead = sum(int((n.weight == 0).sum()) for n in norms(model).values())
        print(
            f"epoch {epoch + 1:2}: loss {total / (len(x) // args.batch):.4f}, "
            f"validation {top1(model, *held_out):.2f} %, zero channels {dead}, {time.time() - started:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--sparsity", type=float, default=0.03, help="weight of the group lasso")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    started = time.time()
    train_set, held_out, test = draw(TRAIN, 100 + args.seed), draw(VALIDATION, 200 + args.seed), draw(TEST, 300 + args.seed)
    model = ShapeNet()
    print(f"{sum(p.numel() for p in model.parameters())} parameters; drawn in {time.time() - started:.0f} s", flush=True)
    train(model, *train_set, held_out, args)

    model.eval()
    for name, norm in norms(model).items():
        print(f"{name}: {int(((norm.weight == 0) & (norm.bias == 0)).sum())} of {norm.num_features} channels are zero")
    print(f"test: {top1(model, *test):.2f} % of {TEST}, {top1(model, test[0][:KEPT], test[1][:KEPT]):.2f} % of the {KEPT} that are kept")
    torch.jit.trace(model, batch(test[0], slice(0, 1))).save(str(args.out / "shapes.pt"))
    np.savez_compressed(args.out / "shapes_test.npz", x=test[0][:KEPT], y=test[1][:KEPT])
    for name in ("shapes.pt", "shapes_test.npz"):
        print(f"{name}: {(args.out / name).stat().st_size} bytes")
    print(f"{time.time() - started:.0f} s in all")


if __name__ == "__main__":
    main()
