"""What all fittings share: networks from descriptor and parameters to numbers of an atom.

    y_i = net_t([D_i, f, a_i, case]) + bias_atom_e[t],   f and a_i standardised as (x - avg) * inv_std.

There is one network for each centre type, or one for all types where the descriptor carries the type already
(`mixed_types`). `case` is a constant vector that tells the branches of a multi-task model apart.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.layers import PRECISIONS, Dense, Network, load_into, stream, to_numpy

TREE_KEYS = ("neuron", "resnet_dt", "numb_fparam", "numb_aparam", "default_fparam", "rcond", "activation_function",
             "precision", "exclude_types", "trainable", "atom_ener", "dim_case_embd", "use_aparam_as_mask")  # fmt: skip
NOT_BUILT = (("tot_ener_zero", False), ("spin", None))


@dataclass(frozen=True)
class Inputs:
    """What a fitting has to know of the descriptor under it."""

    n_types: int
    dim_descriptor: int
    mixed_types: bool = False
    embedding_width: int = 0  # rows of the equivariant output, for tensor fittings


class FittingNetworks(nn.Module):
    """The networks of a fitting with `n_out` outputs, [n_centers, n_out]."""

    n_types: Final[int]
    n_out: Final[int]
    dim_fparam: Final[int]
    dim_aparam: Final[int]
    has_vacuum: Final[bool]
    mixed_types: Final[bool]

    def __init__(self, section: dict[str, Any], inputs: Inputs, n_out: int):
        super().__init__()
        self.section = dict(section)
        self.n_types = n_types = inputs.n_types
        self.n_out = n_out
        self.dim_descriptor = inputs.dim_descriptor
        self.mixed_types = inputs.mixed_types
        self.dim_fparam = int(section.get("numb_fparam", 0))
        self.as_mask = bool(section.get("use_aparam_as_mask", False))  # then the model takes it, and no network
        self.dim_aparam = 0 if self.as_mask else int(section.get("numb_aparam", 0))
        self.dim_case = int(section.get("dim_case_embd", 0) or 0)
        self.dtype = PRECISIONS[section.get("precision", "default")]
        self.n_in = inputs.dim_descriptor + self.dim_fparam + self.dim_aparam + self.dim_case
        n_networks = 1 if self.mixed_types else n_types
        self.networks = nn.ModuleList([self._network() for _ in range(n_networks)])
        self.vacuum = vacuum_flags(section.get("atom_ener") or [], n_types, self.mixed_types)
        self.has_vacuum = any(self.vacuum)
        self.n_vacuum_kept = 0  # last numbers of the descriptor that an atom in vacuum has too
        keep = torch.ones(n_types, dtype=torch.float64)
        for t in section.get("exclude_types", []):
            keep[t] = 0.0
        self.register_buffer("keep", keep)
        self.register_buffer("vacuum_t", torch.tensor(self.vacuum, dtype=torch.float64))
        self.register_buffer("bias_atom_e", torch.zeros(n_types, n_out, dtype=torch.float64))
        self.register_buffer("case_embd", torch.zeros(self.dim_case, dtype=torch.float64))
        for name, dim in (("fparam", self.dim_fparam), ("aparam", self.dim_aparam)):
            self.register_buffer(f"{name}_avg", torch.zeros(dim, dtype=torch.float64))
            self.register_buffer(f"{name}_inv_std", torch.ones(dim, dtype=torch.float64))

    def _network(self) -> Network:
        """Hidden layers with skips, then a linear layer with bias and no skip."""
        section = self.section
        widths = [self.n_in, *section["neuron"]]
        resnet_dt, activation = bool(section.get("resnet_dt", True)), section["activation_function"]
        shapes = zip(widths[:-1], widths[1:], strict=True)
        layers = [Dense(shape, activation, True, resnet_dt, self.dtype) for shape in shapes]
        layers.append(Dense((widths[-1], self.n_out), "none", False, False, self.dtype))
        return Network(layers)

    def trainable(self) -> list[bool]:
        """One flag per layer, the output layer included."""
        flags = self.section.get("trainable", True)
        n_layers = len(self.section["neuron"]) + 1
        return [bool(flags)] * n_layers if isinstance(flags, bool) else [bool(flag) for flag in flags]

    def randomise(self, seed: int | None) -> None:
        for t, network in enumerate(self.networks):
            network.randomise(stream(seed, "fitting", t))

    def parameters_of_atoms(self, fparam: Tensor | None, aparam: Tensor | None, n: int) -> list[Tensor]:
        """Standardised parameters, each [n_centers, dim], in the order in which the network takes them."""
        parts: list[Tensor] = []
        if self.dim_fparam > 0:
            assert fparam is not None, "this model needs frame parameters (fparam)"
            parts.append(((fparam - self.fparam_avg) * self.fparam_inv_std).to(self.dtype))
        if self.dim_aparam > 0:
            assert aparam is not None, "this model needs atomic parameters (aparam)"
            parts.append(((aparam - self.aparam_avg) * self.aparam_inv_std).to(self.dtype))
        if self.case_embd.shape[0] > 0:
            parts.append(self.case_embd.to(self.dtype).unsqueeze(0).expand(n, -1))
        return parts

    def in_vacuum(self, descriptor: Tensor) -> Tensor:
        """Descriptors of the same atoms without neighbours."""
        n = self.n_vacuum_kept
        empty = torch.zeros_like(descriptor).to(self.dtype)
        if n == 0:
            return empty
        return torch.cat([empty[:, :-n], descriptor[:, -n:].to(self.dtype)], dim=1)

    def raw(self, descriptor: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """Outputs of the networks and `bias_atom_e`, [n_centers, n_out] float64, nothing masked."""
        if not torch.jit.is_scripting():
            blocks = [] if self.mixed_types else type_blocks(types_i)
            if len(blocks) > 0:
                return self.of_blocks(descriptor, blocks, fparam, aparam)
        extra = self.parameters_of_atoms(fparam, aparam, types_i.shape[0])
        x = torch.cat([descriptor.to(self.dtype)] + extra, dim=1)
        vacuum = torch.cat([self.in_vacuum(descriptor)] + extra, dim=1) if self.has_vacuum else x
        y = torch.zeros(types_i.shape[0], self.n_out, dtype=torch.float64, device=descriptor.device)
        for t, network in enumerate(self.networks):
            if self.mixed_types:
                y = network(x).to(torch.float64)
                if self.has_vacuum:
                    y = y - network(vacuum).to(torch.float64)
            else:
                atoms = torch.nonzero(types_i == t).flatten()
                part = network(x[atoms]).to(torch.float64)
                if self.has_vacuum:
                    part = part - self.vacuum_t[t] * network(vacuum[atoms]).to(torch.float64)
                y = y.index_add(0, atoms, part)
        return y + self.bias_atom_e[types_i]

    @torch.jit.unused
    def of_blocks(
        self, descriptor: Tensor, blocks: list[tuple[int, int, int]], fparam: Tensor | None, aparam: Tensor | None
    ) -> Tensor:
        """`raw` for atoms sorted by type, without copies of their descriptors."""
        parts = []
        for t, begin, end in blocks:
            own = [None if part is None else part[begin:end] for part in (fparam, aparam)]
            parts.append(self.of_one_type(descriptor[begin:end], t, *own))
        return torch.cat(parts)

    @torch.jit.unused
    def of_one_type(self, descriptor: Tensor, t: int, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """`raw` for atoms that are all of type t."""
        extra = self.parameters_of_atoms(fparam, aparam, descriptor.shape[0])
        x = torch.cat([descriptor.to(self.dtype), *extra], dim=1) if extra else descriptor.to(self.dtype)
        network = self.networks[0 if self.mixed_types else t]
        y = network(x).to(torch.float64)
        if self.vacuum[t]:
            empty = torch.cat([self.in_vacuum(descriptor), *extra], dim=1)
            y = y - network(empty).to(torch.float64)
        return y + self.bias_atom_e[t]

    def serialize_common(self, type_map: list[str], var_name: str, version: int) -> dict[str, Any]:
        """The keys that every fitting writes, in the established order; the caller adds its own."""
        section, trainable = self.section, self.trainable()
        precision = "float64" if self.dtype == torch.float64 else "float32"
        shared = {
            "activation_function": section["activation_function"],
            "resnet_dt": bool(section.get("resnet_dt", True)),
            "precision": precision,
        }
        networks = [
            {
                "@class": "FittingNetwork",
                "@version": 1,
                "in_dim": self.n_in,
                "out_dim": self.n_out,
                "neuron": list(section["neuron"]),
                **shared,
                "bias_out": True,
                "layers": network.serialize_layers(trainable),
            }
            for network in self.networks
        ]
        return {
            "@class": "Fitting",
            "@version": version,
            "var_name": var_name,
            "ntypes": self.n_types,
            "dim_descrpt": self.dim_descriptor,
            "neuron": list(section["neuron"]),
            "resnet_dt": shared["resnet_dt"],
            "numb_fparam": self.dim_fparam,
            "numb_aparam": 1 if self.as_mask else self.dim_aparam,
            "dim_case_embd": self.dim_case,
            "default_fparam": section.get("default_fparam"),
            "rcond": section.get("rcond"),
            "activation_function": shared["activation_function"],
            "precision": precision,
            "mixed_types": self.mixed_types,
            "exclude_types": list(section.get("exclude_types", [])),
            "nets": {
                "@class": "NetworkCollection",
                "@version": 1,
                "ndim": 0 if self.mixed_types else 1,
                "ntypes": self.n_types,
                "network_type": "fitting_network",
                "networks": networks,
            },
            "@variables": self._variables(),
            "type_map": list(type_map),
            "tot_ener_zero": False,
            "trainable": trainable,
            "layer_name": None,
            "use_aparam_as_mask": self.as_mask,
            "spin": None,
        }

    def _variables(self) -> dict[str, Any]:
        case = to_numpy(self.case_embd) if self.dim_case else None
        variables: dict[str, Any] = {"bias_atom_e": to_numpy(self.bias_atom_e), "case_embd": case}
        for name, dim in (("fparam", self.dim_fparam), ("aparam", self.dim_aparam)):
            for part in ("avg", "inv_std"):
                variables[f"{name}_{part}"] = to_numpy(getattr(self, f"{name}_{part}")) if dim else None
        return variables

    def take_over(self, tree: dict[str, Any]) -> None:
        """Networks and variables of a neutral tree."""
        variables = tree["@variables"]
        names = ("bias_atom_e", "case_embd", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
        for name in names:
            if variables.get(name) is not None and not (self.as_mask and name.startswith("aparam")):
                load_into(getattr(self, name), variables[name])
        networks = tree["nets"]["networks"]
        if len(networks) != len(self.networks):
            kind = "one for all types" if self.mixed_types else "one per type"
            raise ModelError(f"fitting: got {len(networks)} networks, expected {len(self.networks)}, {kind}")
        self.networks = nn.ModuleList(
            [Network([Dense.deserialize(layer) for layer in network["layers"]]) for network in networks]
        )


def type_blocks(types_i: Tensor) -> list[tuple[int, int, int]]:
    """Type, first place and end of each type where atoms are sorted by type, as in training; else nothing."""
    found: list[tuple[int, int, int]] = []
    kinds, counts = torch.unique_consecutive(types_i, return_counts=True)
    if bool((kinds[1:] > kinds[:-1]).all()):
        begin = 0
        for t, n in zip(kinds.tolist(), counts.tolist(), strict=True):
            found.append((t, begin, begin + n))
            begin += n
    return found


def section_of_tree(tree: dict[str, Any], *more: str) -> dict[str, Any]:
    """The keys of a fitting section that a neutral tree holds."""
    for key, plain in NOT_BUILT:
        if tree.get(key) not in (None, plain):
            raise ModelError(f"fitting/{key}: got {tree[key]!r}, which this version does not run; expected {plain!r}")
    return {key: tree[key] for key in (*TREE_KEYS, *more) if key in tree}


def inputs_of_tree(tree: dict[str, Any], n_types: int) -> Inputs:
    """What a neutral tree says of the descriptor under the fitting."""
    mixed, width = bool(tree.get("mixed_types")), int(tree.get("embedding_width", 0))
    return Inputs(n_types, int(tree["dim_descrpt"]), mixed, width)


def vacuum_flags(atom_ener: list[Any], n_types: int, mixed_types: bool = False) -> list[bool]:
    """Which types have their vacuum term removed: entries that are not null, and the types beyond the list's end.

    One network for all types has one vacuum term: any entry removes it for all of them.
    """
    if all(entry is None for entry in atom_ener):
        return [False] * n_types
    if mixed_types:
        return [True] * n_types
    flags = [entry is not None for entry in atom_ener[:n_types]]
    return flags + [True] * (n_types - len(flags))


def as_column(values: Any) -> np.ndarray:
    """Numbers per type as the files hold them, [n_types, 1]."""
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)
