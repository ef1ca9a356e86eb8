"""Activation functions by their established names."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from deepmd.errors import InputError
from deepmd.nn.compiled import CURVES, curved, serve

NAMES = ("tanh", "relu", "relu6", "softplus", "sigmoid", "gelu", "gelu_tf", "silu", "silut", "linear", "none")
# Functions with continuous derivatives of every order: those for which interpolation on nodes converges quickly.
SMOOTH = ("tanh", "softplus", "sigmoid", "gelu", "gelu_tf", "silu", "linear", "none")


class Activation(nn.Module):
    """y = f(x) element by element.

    `silut` (or `silut:a`) is silu below the threshold a (3 by default) and continues above it as a tanh with the same
    value and slope. `gelu` is the tanh approximation, as everywhere in this family of models.
    """

    name: Final[str]
    threshold: Final[float]
    slope: Final[float]
    value: Final[float]

    def __init__(self, name: str):
        super().__init__()
        base, _, parameter = name.lower().partition(":")
        if base not in NAMES:
            raise InputError(f"activation function: got {name!r}, expected one of {', '.join(NAMES)}")
        self.name = "none" if base == "linear" else base
        self.threshold = float(parameter) if parameter else 3.0
        sigmoid = 1.0 / (1.0 + math.exp(-self.threshold))
        self.value = self.threshold * sigmoid
        self.slope = sigmoid + self.threshold * sigmoid * (1.0 - sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            if self.name in CURVES and serve(x):
                return curved(x, self.name, self.threshold)
        if self.name == "tanh":
            return torch.tanh(x)
        if self.name == "none":
            return x
        if self.name == "relu":
            return torch.relu(x)
        if self.name == "relu6":
            return torch.clamp(x, 0.0, 6.0)
        if self.name == "softplus":
            return torch.nn.functional.softplus(x)
        if self.name == "sigmoid":
            return torch.sigmoid(x)
        if self.name == "silu":
            return torch.nn.functional.silu(x)
        if self.name == "silut":
            above = torch.tanh(self.slope * (x - self.threshold)) + self.value
            return torch.where(x < self.threshold, torch.nn.functional.silu(x), above)
        return torch.nn.functional.gelu(x, approximate="tanh")
