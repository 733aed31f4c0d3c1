#!/usr/bin/env python3
"""PyTorch's training curve on the batches and from the weights of one of our runs.

    cargo run --release -p harness --example image_batches -- configs/train/resnet20-cifar10-plain.toml 390 batches.safetensors
    python ci/peers/torch_resnet_curve.py batches.safetensors --batch 128 --max-steps 390 --warmup 39 --lr 0.2 --decay 5e-4 [--seed-shift 1e-6]

A CIFAR ResNet with padding shortcuts, SGD with Nesterov momentum, linear warm-up and cosine as harness/src/train/schedule.rs has them,
no decay on vectors. Prints one JSON object: the loss of every step, accuracy on the evaluation set after the last. `--seed-shift` adds
noise of that deviation to the initial weights: how far two runs of PyTorch itself drift apart. Needs torch and safetensors.
"""
import argparse
import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--max-steps", type=int, required=True)
parser.add_argument("--warmup", type=int, required=True)
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--decay", type=float, required=True)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--eps", type=float, default=1e-5)
parser.add_argument("--seed-shift", type=float, default=0.0)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
tensors = load_file(options.file)
torch.manual_seed(1)
state = {name[5:]: tensor.clone() for name, tensor in tensors.items() if name.startswith("init.")}
weights = {name: tensor for name, tensor in state.items() if "running" not in name and "num_batches" not in name}
for tensor in weights.values():
    tensor += options.seed_shift * torch.randn_like(tensor)
    tensor.requires_grad_()


def norm(x, name, training):
    mean, var = state[name + ".running_mean"], state[name + ".running_var"]
    return F.batch_norm(x, mean, var, weights[name + ".weight"], weights[name + ".bias"], training, 0.1, options.eps)


def network(x, training):
    x = F.relu(norm(F.conv2d(x, weights["conv1.weight"], padding=1), "bn1", training))
    for stage in range(1, 4):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1.weight" in weights:
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, weights[name + ".conv1.weight"], stride=stride, padding=1), name + ".bn1", training))
            y = norm(F.conv2d(y, weights[name + ".conv2.weight"], padding=1), name + ".bn2", training)
            if stride == 2:
                added = y.shape[1] - x.shape[1]
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added // 2, added - added // 2))
            x = F.relu(y + x)
            block += 1
    return F.linear(x.mean((2, 3)), weights["fc.weight"], weights["fc.bias"])


matrices = [w for w in weights.values() if w.dim() > 1]
vectors = [w for w in weights.values() if w.dim() <= 1]
groups = [{"params": matrices, "weight_decay": options.decay}, {"params": vectors, "weight_decay": 0.0}]
optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=True)
images, labels = tensors["images"].permute(0, 3, 1, 2), tensors["labels"].long()
losses = []
for step in range(len(labels) // options.batch):
    if step < options.warmup:
        rate = (step + 1) / options.warmup
    else:
        rate = 0.5 * (1 + math.cos(math.pi * (step - options.warmup) / (options.max_steps - 1 - options.warmup)))
    for group in optimizer.param_groups:
        group["lr"] = options.lr * rate
    part = slice(step * options.batch, (step + 1) * options.batch)
    loss = F.cross_entropy(network(images[part], True), labels[part])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
with torch.no_grad():
    logits = torch.cat([network(part, False) for part in tensors["valid.images"].permute(0, 3, 1, 2).split(500)])
right = (logits.argmax(1) == tensors["valid.labels"].long()).float().mean().item()
print(json.dumps({"peer": f"torch {torch.__version__}", "losses": losses, "acc1": right}))
