"""Accuracy against seconds of spiking networks in PyTorch: what `ransnn compare` draws beside our runs.

    python benches/headline.py --data FOLDER --dataset mnist --model mlp --epochs 1 2 4 --threads 2 --out runs

FOLDER/DATASET holds the four IDX files, gzipped or not. For each number of epochs a network is trained from scratch,
its learning rate falling linearly to zero, and judged on the test set once; OUT/torch-MODEL-DATASET-N/summary.json
then has what a run of ours would say. `seconds` is everything from the start of the process (imports and the reading
of files are measured once) to the tested model.

The loop is the fastest that we know for PyTorch on processors: the input current is the same in every step, so that
the first layer is one product or convolution; the later layers are one product over all steps; only the neurons step.
"""
import time

START = time.perf_counter()
import argparse
import gzip
import json
import os
import pathlib
import resource

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--dataset", default="mnist")
parser.add_argument("--model", default="mlp", choices=["mlp", "conv"])
parser.add_argument("--epochs", type=float, nargs="+", default=[1.0])
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--hidden", type=int, default=1000)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--out", required=True)
a = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(a.threads)
BETA = 0.9


def idx(name):
    path = pathlib.Path(a.data) / a.dataset / name
    opened = gzip.open(str(path) + ".gz") if not path.is_file() else open(path, "rb")
    with opened as file:
        raw = file.read()
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def split(name):
    images = torch.from_numpy(idx(f"{name}-images-idx3-ubyte").copy()).float().div_(255).unsqueeze(1)
    return images, torch.from_numpy(idx(f"{name}-labels-idx1-ubyte").astype(np.int64))


train, test = split("train"), split("t10k")
LOADED = time.perf_counter() - START


class Spike(torch.autograd.Function):
    """Heaviside forward, arctangent (alpha 2) backward."""
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        return g / (1.0 + (torch.pi * u) ** 2)


def lif(current):
    """Spikes [steps, ...] of a current for each step."""
    v, out = 0.0, []
    for x in current:
        v = BETA * v + x
        s = Spike.apply(v - 1.0)
        v = v - s.detach()
        out.append(s)
    return torch.stack(out)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(784, a.hidden), nn.Linear(a.hidden, 10)

    def forward(self, x):
        spikes = lif([self.a(x.flatten(1))] * a.steps)
        return self.b(spikes).mean(0)


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.na = nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16)
        self.b, self.nb = nn.Conv2d(16, 32, 5, 2, 2), nn.BatchNorm2d(32)
        self.c = nn.Linear(32 * 49, 10)

    def forward(self, x):
        s = lif([self.na(self.a(x))] * a.steps)
        current = self.nb(self.b(s.flatten(0, 1))).unflatten(0, (a.steps, -1))
        s = lif(current)
        return self.c(s.flatten(2)).mean(0)


for epochs in a.epochs:
    torch.manual_seed(a.seed)
    begun = time.perf_counter()
    net = Mlp() if a.model == "mlp" else Conv()
    forward = torch.compile(net) if a.compile else net
    optimizer = torch.optim.Adam(net.parameters(), lr=a.lr)
    per_epoch = len(train[0]) // a.batch
    total = max(1, round(epochs * per_epoch))
    done = 0
    while done < total:
        order = torch.randperm(len(train[0]))
        for i in range(min(per_epoch, total - done)):
            for group in optimizer.param_groups:
                group["lr"] = a.lr * (1 - done / total)
            pick = order[i * a.batch:(i + 1) * a.batch]
            loss = F.cross_entropy(forward(train[0][pick]), train[1][pick])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
    net.eval()
    with torch.no_grad():
        right = sum((net(test[0][i:i + 500]).argmax(1) == test[1][i:i + 500]).sum().item()
                    for i in range(0, len(test[0]), 500))
    seconds = LOADED + time.perf_counter() - begun
    accuracy = right / len(test[0])
    name = f"torch-{a.model}-{a.dataset}-{epochs:g}".replace(".", "")
    zero = {"per_sample": 0.0}
    summary = {
        "schema": 1, "name": name, "status": "ok", "dataset": a.dataset, "fallback": None,
        "judged_on": "test", "test": {"accuracy": accuracy}, "train": {"accuracy": 0.0},
        "seconds": {"data": LOADED, "features": 0.0, "fit": seconds - LOADED, "test": 0.0, "total": seconds},
        "spikes": zero, "synaptic_operations": zero, "analogue_operations": zero,
        "memory": {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
        "parameters": {"trained": sum(p.numel() for p in net.parameters()), "frozen": 0},
        "seeds": [], "device": "cpu", "threads": a.threads, "run_directory": None,
    }
    folder = pathlib.Path(a.out) / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{name}: {100 * accuracy:.2f} % after {seconds:.2f} s, {LOADED:.2f} s of them imports and files", flush=True)
