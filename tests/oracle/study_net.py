"""The study's CNN in PyTorch, Fashion-MNIST in file order, and the weights file both sides start from.

CNN(linear, conv, relu), C x H x H images, 10 classes:
    block d = 1..conv:  Conv2d(3x3, stride 1, pad 1, C * 3^d channels) -> BatchNorm2d -> [ReLU] -> MaxPool2d(2)
    tail:               Flatten -> linear1 .. linearL, widths max(floor(C*H*H / 2^k), C), the last one 10
The tail has no non-linearity, as in the study; `relu` concerns the blocks only.
"""
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import torch
from torch import nn

CELLS = [(lin, conv, relu) for lin in (3, 7) for conv in (1, 4) for relu in (0, 1)]
CLASSES = 10
# (linear, conv) -> parameters on Fashion-MNIST, the study's own counts; a wrong net cannot pass silently.
PUBLISHED_PARAMS = {(3, 1): 309922, (7, 1): 333739, (3, 4): 133642, (7, 4): 157459}


class StudyCnn(nn.Module):
    """Names of parameters: conv1.weight .. bnD.running_var, linear1.weight .. linearL.bias."""

    def __init__(self, linear, conv, relu, channels=1, size=28):
        super().__init__()
        self.depth, self.tail, self.relu = conv, linear, bool(relu)
        image, c, h = channels * size * size, channels, size
        for d in range(1, conv + 1):
            setattr(self, f"conv{d}", nn.Conv2d(c, channels * 3**d, 3, stride=1, padding=1))
            c, h = channels * 3**d, h // 2
            setattr(self, f"bn{d}", nn.BatchNorm2d(c))
        width = c * h * h
        for k in range(1, linear + 1):
            out = CLASSES if k == linear else max(image >> k, channels)
            setattr(self, f"linear{k}", nn.Linear(width, out))
            width = out
        params = sum(p.numel() for p in self.parameters())
        expected = PUBLISHED_PARAMS.get((linear, conv))
        if (channels, size) == (1, 28) and expected not in (None, params):
            raise ValueError(f"StudyCnn {linear},{conv}: {params} parameters, the study has {expected}")

    def forward(self, x):
        for d in range(1, self.depth + 1):
            x = getattr(self, f"bn{d}")(getattr(self, f"conv{d}")(x))
            x = nn.functional.max_pool2d(torch.relu(x) if self.relu else x, 2)
        x = torch.flatten(x, 1)
        for k in range(1, self.tail + 1):
            x = getattr(self, f"linear{k}")(x)
        return x


def read_idx(path):
    """An IDX file of unsigned bytes, gzipped or not -> uint8 array."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rb") as file:
        magic = struct.unpack(">I", file.read(4))[0]
        if magic >> 8 != 8:
            raise ValueError(f"{path}: magic {magic:#x}, expected an IDX file of unsigned bytes")
        shape = struct.unpack(f">{magic & 255}I", file.read(4 * (magic & 255)))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def data_folder(given=None):
    """The first folder that holds Fashion-MNIST: --data-dir, $WATTLE_DATA, Debian's package."""
    places = [given, os.environ.get("WATTLE_DATA"), "/usr/share/datasets/fashion-mnist"]
    for place in filter(None, places):
        for folder in (Path(place), Path(place) / "fashion-mnist"):
            if any(folder.glob("train-images-idx3-ubyte*")):
                return folder
    raise FileNotFoundError(f"Fashion-MNIST not found in {[p for p in places if p]}; "
                            "apt-get install dataset-fashion-mnist, or --data-dir")


def load_split(folder, split, dtype=torch.float32):
    """'train' or 't10k' -> images [N,1,28,28] = pixel * f32(1/255), rounded to f32 before widening; labels i64 [N].

    wattle multiplies, PyTorch's ToTensor divides: one ulp apart for some pixels, which f64 would see.
    """
    def find(kind):
        return read_idx(sorted(Path(folder).glob(f"{split}-{kind}-ubyte*"))[0])

    images = torch.from_numpy(find("images-idx3").astype(np.float32) * np.float32(1 / 255))
    return images.unsqueeze(1).to(dtype), torch.from_numpy(find("labels-idx1").astype(np.int64))


def save_weights(net, path):
    """state_dict as safetensors, without num_batches_tracked (momentum is fixed, nothing reads it)."""
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in net.state_dict().items() if "num_batches" not in k}
    save_file(state, str(path))


def load_weights(net, path):
    from safetensors.torch import load_file

    state = load_file(str(path))
    missing, unexpected = net.load_state_dict(state, strict=False)
    missing = [name for name in missing if "num_batches" not in name]
    if missing or unexpected:
        raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")


@torch.no_grad()
def accuracy(net, images, labels, batch=1000):
    """Fraction right in eval mode (batch_norm on its running statistics)."""
    was_training = net.training
    net.eval()
    right = sum(int((net(images[i:i + batch]).argmax(1) == labels[i:i + batch]).sum())
                for i in range(0, len(images), batch))
    net.train(was_training)
    return right / len(images)
