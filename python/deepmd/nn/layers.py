"""Dense layers with the skip rule of this family of models, and the two networks that are made of them.

Layer: y = f(x W + b), times the time step `idt` where there is one, plus x if the widths agree, plus [x, x] if the
output is twice as wide. `idt` exists only where `resnet_dt` is set and the layer has a skip.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.activation import Activation

PRECISIONS = {"default": torch.float64, "float64": torch.float64, "double": torch.float64, "float32": torch.float32}


class Dense(nn.Module):
    """One layer; parameters w [n_in, n_out], b [n_out] unless `bias` is off, idt [n_out], all in `dtype`."""

    skip: Final[int]
    has_idt: Final[bool]
    has_bias: Final[bool]
    n_in: Final[int]
    n_out: Final[int]

    def __init__(
        self,
        shape: tuple[int, int],
        activation: str,
        resnet: bool,
        timestep: bool,
        dtype: torch.dtype,
        bias: bool = True,
    ):
        super().__init__()
        self.has_bias = bias
        self.n_in, self.n_out = shape
        self.skip = 0
        if resnet and self.n_out in (self.n_in, 2 * self.n_in):
            self.skip = self.n_out // self.n_in
        self.resnet = resnet
        self.has_idt = timestep and self.skip > 0
        self.activation_name = activation
        self.activation = Activation(activation)
        self.w = nn.Parameter(torch.zeros(shape, dtype=dtype))
        if bias:
            self.b = nn.Parameter(torch.zeros(self.n_out, dtype=dtype))
        else:
            self.register_buffer("b", torch.zeros(self.n_out, dtype=dtype), persistent=False)
        if self.has_idt:
            self.idt = nn.Parameter(torch.ones(self.n_out, dtype=dtype))
        else:
            self.register_buffer("idt", torch.ones(0, dtype=dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            linear = torch.addmm(self.b, x, self.w)
        else:
            linear = torch.addmm(self.b, x.flatten(0, -2), self.w).unflatten(0, x.shape[:-1])
        y = self.activation(linear)
        if self.has_idt:
            y = y * self.idt
        if self.skip == 1:
            y = y + x
        elif self.skip == 2:
            y = y + torch.cat([x, x], dim=-1)
        return y

    def randomise(self, generator: np.random.Generator) -> None:
        """Initial values: W ~ N(0, 1/sqrt(n_in + n_out)), b ~ N(0, 1), idt ~ N(0.1, 0.001)."""
        draws = (
            (self.w, 0.0, 1.0 / np.sqrt(self.n_in + self.n_out)),
            (self.b, 0.0, 1.0),
            (self.idt, 0.1, 0.001),
        )
        with torch.no_grad():
            for parameter, mean, width in draws:
                if not isinstance(parameter, nn.Parameter):
                    continue
                values = generator.normal(mean, width, size=tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(np.asarray(values)))

    def serialize(self, trainable: bool = True) -> dict[str, Any]:
        precision = "float64" if self.w.dtype == torch.float64 else "float32"
        return {
            "@class": "Layer",
            "@version": 2,
            "bias": self.has_bias,
            "use_timestep": self.has_idt,
            "activation_function": self.activation_name,
            "resnet": self.resnet,
            "precision": precision,
            "trainable": trainable,
            "@variables": {
                "w": to_numpy(self.w),
                "b": to_numpy(self.b) if self.has_bias else None,
                "idt": to_numpy(self.idt) if self.has_idt else None,
            },
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> "Dense":
        variables = tree["@variables"]
        shape = np.asarray(variables["w"]).shape
        bias, idt = variables.get("b"), variables.get("idt")
        layer = cls(
            (int(shape[0]), int(shape[1])),
            tree.get("activation_function") or "none",
            bool(tree.get("resnet", True)),
            idt is not None,
            PRECISIONS[tree.get("precision", "float64")],
            bias is not None,
        )
        if idt is not None and not layer.has_idt:
            raise ModelError(f"layer of shape {shape}: got a time step without a skip, which no known model writes")
        load_into(layer.w, variables["w"])
        if bias is not None:
            load_into(layer.b, bias)
        if idt is not None:
            load_into(layer.idt, idt)
        return layer


class Network(nn.Module):
    """Layers in a row. `embedding` networks have hidden layers only; `fitting` networks end in a linear layer."""

    def __init__(self, layers: list[Dense]):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.dtype = layers[0].w.dtype

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def randomise(self, seed: list[int] | None) -> None:
        for k, layer in enumerate(self.layers):
            layer.randomise(np.random.default_rng(None if seed is None else [*seed, k]))

    def serialize_layers(self, trainable: list[bool]) -> list[dict[str, Any]]:
        return [layer.serialize(flag) for layer, flag in zip(self.layers, trainable, strict=True)]


def embedding_network(
    neuron: list[int], activation: str, resnet_dt: bool, dtype: torch.dtype, n_in: int = 1, bias: bool = True
) -> Network:
    """R^n_in -> R^neuron[-1]; every layer obeys the skip rule, the first included."""
    widths = [n_in, *neuron]
    shapes = zip(widths[:-1], widths[1:], strict=True)
    return Network([Dense(shape, activation, True, resnet_dt, dtype, bias) for shape in shapes])


def fitting_network(n_in: int, neuron: list[int], activation: str, resnet_dt: bool, dtype: torch.dtype) -> Network:
    """R^n_in -> R; hidden layers with skips, then a linear layer with bias and no skip."""
    widths = [n_in, *neuron]
    shapes = zip(widths[:-1], widths[1:], strict=True)
    layers = [Dense(shape, activation, True, resnet_dt, dtype) for shape in shapes]
    layers.append(Dense((widths[-1], 1), "none", False, False, dtype))
    return Network(layers)


STREAMS = {"embedding": 0, "fitting": 1, "types": 2, "strip": 3, "attention": 4, "layers": 5}


def stream(seed: int | list[int] | None, kind: str, k: int) -> list[int] | None:
    """Seed of the k-th network of a kind; networks of different kinds stay independent under the same seed."""
    if seed is None:
        return None
    return [*(seed if isinstance(seed, list) else [seed]), STREAMS[kind], k]


def to_numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def load_into(parameter: Tensor, values: Any) -> None:
    """Copies values into a parameter or buffer of the same number of elements."""
    array = np.asarray(values)
    if array.size != parameter.numel():
        raise ModelError(f"model variable: got {array.shape}, expected {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(parameter.shape))
