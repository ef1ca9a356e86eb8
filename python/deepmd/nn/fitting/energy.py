"""The energy fitting: one network per centre type from descriptor and parameters to an atomic energy.

    E_i = net_t([D_i, f, a_i]) + bias_atom_e[t],   f and a_i standardised as (x - avg) * inv_std.

`atom_ener` marks the types whose vacuum term is removed: the output of the same network for a zero descriptor and the
actual parameters is subtracted. The number itself is no bias; `preset_out_bias` is for that.
"""

from typing import Any, Final

import torch
from torch import Tensor, nn

from deepmd.errors import ModelError
from deepmd.nn.layers import PRECISIONS, Dense, Network, fitting_network, load_into, stream, to_numpy


class EnergyFitting(nn.Module):
    """Atomic energies [n_centers] in eV from descriptors [n_centers, dim_descriptor]."""

    n_types: Final[int]
    dim_fparam: Final[int]
    dim_aparam: Final[int]
    has_vacuum: Final[bool]

    def __init__(self, section: dict[str, Any], n_types: int, dim_descriptor: int):
        super().__init__()
        self.section = dict(section)
        self.n_types = n_types
        self.dim_descriptor = dim_descriptor
        self.dim_fparam = int(section.get("numb_fparam", 0))
        self.dim_aparam = int(section.get("numb_aparam", 0))
        self.dtype = PRECISIONS[section.get("precision", "default")]
        n_in = dim_descriptor + self.dim_fparam + self.dim_aparam
        arguments = (
            n_in,
            section["neuron"],
            section["activation_function"],
            bool(section.get("resnet_dt", True)),
            self.dtype,
        )
        self.networks = nn.ModuleList([fitting_network(*arguments) for _ in range(n_types)])
        self.vacuum = vacuum_flags(section.get("atom_ener") or [], n_types)
        self.has_vacuum = any(self.vacuum)
        keep = torch.ones(n_types, dtype=torch.float64)
        for t in section.get("exclude_types", []):
            keep[t] = 0.0
        self.register_buffer("keep", keep)
        self.register_buffer("vacuum_t", torch.tensor(self.vacuum, dtype=torch.float64))
        self.register_buffer("bias_atom_e", torch.zeros(n_types, dtype=torch.float64))
        for name, dim in (("fparam", self.dim_fparam), ("aparam", self.dim_aparam)):
            self.register_buffer(f"{name}_avg", torch.zeros(dim, dtype=torch.float64))
            self.register_buffer(f"{name}_inv_std", torch.ones(dim, dtype=torch.float64))

    def trainable(self) -> list[bool]:
        """One flag per layer, the output layer included."""
        flags = self.section.get("trainable", True)
        n_layers = len(self.section["neuron"]) + 1
        return [bool(flags)] * n_layers if isinstance(flags, bool) else [bool(flag) for flag in flags]

    def randomise(self, seed: int | None) -> None:
        for t, network in enumerate(self.networks):
            network.randomise(stream(seed, "fitting", t))

    def parameters_of_atoms(self, fparam: Tensor | None, aparam: Tensor | None) -> list[Tensor]:
        """Standardised parameters, each [n_centers, dim], in the order in which the network takes them."""
        parts: list[Tensor] = []
        if self.dim_fparam > 0:
            assert fparam is not None, "this model needs frame parameters (fparam)"
            parts.append(((fparam - self.fparam_avg) * self.fparam_inv_std).to(self.dtype))
        if self.dim_aparam > 0:
            assert aparam is not None, "this model needs atomic parameters (aparam)"
            parts.append(((aparam - self.aparam_avg) * self.aparam_inv_std).to(self.dtype))
        return parts

    def forward(self, descriptor: Tensor, types_i: Tensor, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """descriptor [n_centers, dim], types_i [n_centers], fparam and aparam [n_centers, dim] or None."""
        extra = self.parameters_of_atoms(fparam, aparam)
        x = torch.cat([descriptor.to(self.dtype)] + extra, dim=1)
        vacuum = torch.cat([torch.zeros_like(descriptor).to(self.dtype)] + extra, dim=1) if self.has_vacuum else x
        energy = torch.zeros(types_i.shape[0], dtype=torch.float64, device=descriptor.device)
        for t, network in enumerate(self.networks):
            atoms = torch.nonzero(types_i == t).flatten()
            e = network(x[atoms]).flatten().to(torch.float64)
            if self.has_vacuum:
                e = e - self.vacuum_t[t] * network(vacuum[atoms]).flatten().to(torch.float64)
            energy = energy.index_add(0, atoms, e)
        return (energy + self.bias_atom_e[types_i]) * self.keep[types_i]

    @torch.jit.unused
    def of_type(self, descriptor: Tensor, t: int, fparam: Tensor | None, aparam: Tensor | None) -> Tensor:
        """The same for atoms that are all of type t."""
        extra = self.parameters_of_atoms(fparam, aparam)
        x = torch.cat([descriptor.to(self.dtype), *extra], dim=1) if extra else descriptor.to(self.dtype)
        energy = self.networks[t](x).flatten().to(torch.float64)
        if self.vacuum[t]:
            empty = torch.cat([torch.zeros_like(descriptor).to(self.dtype), *extra], dim=1)
            energy = energy - self.networks[t](empty).flatten().to(torch.float64)
        return (energy + self.bias_atom_e[t]) * self.keep[t]

    def serialize(self, type_map: list[str]) -> dict[str, Any]:
        section, trainable = self.section, self.trainable()
        precision = "float64" if self.dtype == torch.float64 else "float32"
        activation, resnet_dt = section["activation_function"], bool(section.get("resnet_dt", True))
        n_in = self.dim_descriptor + self.dim_fparam + self.dim_aparam
        networks = [
            {
                "@class": "FittingNetwork",
                "@version": 1,
                "in_dim": n_in,
                "out_dim": 1,
                "neuron": list(section["neuron"]),
                "activation_function": activation,
                "resnet_dt": resnet_dt,
                "precision": precision,
                "bias_out": True,
                "layers": network.serialize_layers(trainable),
            }
            for network in self.networks
        ]
        variables: dict[str, Any] = {"bias_atom_e": to_numpy(self.bias_atom_e)[:, None], "case_embd": None}
        for name, dim in (("fparam", self.dim_fparam), ("aparam", self.dim_aparam)):
            for part in ("avg", "inv_std"):
                variables[f"{name}_{part}"] = to_numpy(getattr(self, f"{name}_{part}")) if dim else None
        return {
            "@class": "Fitting",
            "@version": 4,
            "var_name": "energy",
            "ntypes": self.n_types,
            "dim_descrpt": self.dim_descriptor,
            "neuron": list(section["neuron"]),
            "resnet_dt": resnet_dt,
            "numb_fparam": self.dim_fparam,
            "numb_aparam": self.dim_aparam,
            "dim_case_embd": 0,
            "default_fparam": section.get("default_fparam"),
            "rcond": section.get("rcond"),
            "activation_function": activation,
            "precision": precision,
            "mixed_types": False,
            "exclude_types": list(section.get("exclude_types", [])),
            "nets": {
                "@class": "NetworkCollection",
                "@version": 1,
                "ndim": 1,
                "ntypes": self.n_types,
                "network_type": "fitting_network",
                "networks": networks,
            },
            "@variables": variables,
            "type_map": list(type_map),
            "tot_ener_zero": False,
            "trainable": trainable,
            "layer_name": None,
            "use_aparam_as_mask": False,
            "spin": None,
            "type": "ener",
            "dim_out": 1,
            "atom_ener": section.get("atom_ener") or None,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], n_types: int) -> "EnergyFitting":
        if tree.get("mixed_types"):
            raise ModelError("fitting: got one network for all types (mixed_types), expected one network per type")
        for key, plain in (
            ("dim_case_embd", 0),
            ("use_aparam_as_mask", False),
            ("tot_ener_zero", False),
            ("spin", None),
        ):
            if tree.get(key) not in (None, plain):
                raise ModelError(
                    f"fitting/{key}: got {tree[key]!r}, which this version does not run; expected {plain!r}"
                )
        keys = ("neuron", "resnet_dt", "numb_fparam", "numb_aparam", "default_fparam", "rcond", "activation_function",
                "precision", "exclude_types", "trainable", "atom_ener")  # fmt: skip
        fitting = cls({key: tree[key] for key in keys if key in tree}, n_types, int(tree["dim_descrpt"]))
        variables = tree["@variables"]
        for name in ("bias_atom_e", "fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"):
            if variables.get(name) is not None:
                load_into(getattr(fitting, name), variables[name])
        networks = tree["nets"]["networks"]
        if len(networks) != n_types:
            raise ModelError(f"fitting: got {len(networks)} networks, expected {n_types}, one per type")
        fitting.networks = nn.ModuleList(
            [Network([Dense.deserialize(layer) for layer in network["layers"]]) for network in networks]
        )
        return fitting


def vacuum_flags(atom_ener: list[Any], n_types: int) -> list[bool]:
    """Which types have their vacuum term removed: entries that are not null, and the types beyond the list's end."""
    if all(entry is None for entry in atom_ener):
        return [False] * n_types
    flags = [entry is not None for entry in atom_ener[:n_types]]
    return flags + [True] * (n_types - len(flags))
