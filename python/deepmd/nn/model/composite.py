"""Energies of several models together: weighted sums, and a network that gives way to a table at short distances.

Each part sees the pairs within its own cutoff, and types in its own order. The bias of the whole stands beside those of
its parts.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.errors import InputError, ModelError
from deepmd.nn.model.energy import Potential
from deepmd.nn.model.facts import Facts
from deepmd.nn.model.parts import common_tree, load_common, register_common

TREE_KEYS = ("type_map", "pair_exclude_types", "atom_exclude_types", "rcond", "preset_out_bias", "weights")


class Composite(Potential):
    """What sums of models share. `frozen`: parts whose parameters and statistics stay as they are."""

    n_types: Final[int]

    def __init__(self, section: dict[str, Any], models: list[nn.Module], frozen: list[bool] | None = None):
        super().__init__()
        self.section = section
        self.type_map = list(section["type_map"])
        self.n_types = len(self.type_map)
        self.models = nn.ModuleList(models)
        self.frozen = [False] * len(models) if frozen is None else list(frozen)
        for model, fixed in zip(models, self.frozen, strict=True):
            if model.facts().kind != "energy":
                raise InputError(f"model/models: got a model that predicts '{model.facts().kind}', expected energies")
            if fixed:
                model.requires_grad_(False)
        self.cutoffs = [float(model.facts().rcut) for model in models]
        self.rcut = max(self.cutoffs)
        register_common(self)
        self.register_buffer("type_of", torch.tensor([self._order(model) for model in models]))  # [n_models, n_types]
        self.min_pair_distance: float | None = None

    def _order(self, model: nn.Module) -> list[int]:
        missing = [name for name in self.type_map if name not in model.type_map]
        if missing:
            raise InputError(
                f"model/models: a part knows the types {' '.join(model.type_map)} and not {' '.join(missing)}; "
                "expected all types of model/type_map in every part"
            )
        return [model.type_map.index(name) for name in self.type_map]

    def parts(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> list[Tensor]:
        """Atomic energies of each part, each [n_centers]."""
        r = torch.linalg.vector_norm(vectors.detach(), dim=1)
        energies: list[Tensor] = []
        for k, model in enumerate(self.models):
            near = torch.nonzero(r < self.cutoffs[k]).flatten()
            own = self.type_of[k][types]
            energies.append(
                model.atom_energy(vectors[near], centers[near], neighbors[near], own, n_centers, fparam, aparam)
            )
        return energies

    def visible(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The pairs that the whole sees."""
        kept = torch.nonzero(self.pair_keep[types[centers], types[neighbors]]).flatten()
        return vectors[kept], centers[kept], neighbors[kept]

    @torch.jit.unused
    def facts(self) -> Facts:
        all_facts = [model.facts() for model in self.models]
        widest = max(all_facts, key=lambda facts: facts.rcut)
        default = next((facts.default_fparam for facts in all_facts if facts.default_fparam), None)
        single = any(facts.precision == "float32" for facts in all_facts)
        return Facts(
            kind="energy",
            rcut=self.rcut,
            rcut_smth=widest.rcut_smth,
            sel=widest.sel,
            dim_fparam=max(facts.dim_fparam for facts in all_facts),
            dim_aparam=max(facts.dim_aparam for facts in all_facts),
            default_fparam=default,
            precision="float32" if single else "float64",
            passes_messages=any(facts.passes_messages for facts in all_facts),
            receptive_field=max(facts.receptive_field or facts.rcut for facts in all_facts),
        )

    @torch.jit.unused
    def seen_pairs(self) -> np.ndarray:
        return self.pair_keep.numpy()

    @torch.jit.unused
    def trained(self) -> list[nn.Module]:
        """The parts that are not frozen."""
        return [model for model, fixed in zip(self.models, self.frozen, strict=True) if not fixed]

    @torch.jit.unused
    def descriptors(self) -> list[nn.Module]:
        return [one for model in self.trained() for one in model.descriptors()]

    @torch.jit.unused
    def fittings(self) -> list[nn.Module]:
        return [one for model in self.trained() for one in model.fittings()]


def _inner(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a part. DeePMD-kit knows a sum as `linear_ener` where it is the whole, and as `linear` inside."""
    return {**tree, "type": "linear"} if tree["type"] == "linear_ener" else tree


class LinearModel(Composite):
    """E_i = sum_k w_k E_ki; weights: "mean" (1 over the number of parts), "sum" (1 each) or one number a part."""

    def __init__(self, section: dict[str, Any], models: list[nn.Module], frozen: list[bool] | None = None):
        super().__init__(section, models, frozen)
        given = section.get("weights", "mean")
        n = len(models)
        weights = given if isinstance(given, list) else [1.0 / n if given == "mean" else 1.0] * n
        if len(weights) != n:
            raise InputError(f"model/weights: got {len(weights)} numbers, expected {n}, one for each of model/models")
        self.weights = [float(w) for w in weights]

    def atom_energy(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic energies [n_centers], bias included."""
        types_i = types[:n_centers]
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        energy = self.out_bias[types_i]
        for k, part in enumerate(self.parts(vectors, centers, neighbors, types, n_centers, fparam, aparam)):
            energy = energy + self.weights[k] * part
        return energy * self.atom_keep[types_i]

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        models = [_inner(model.serialize()) for model in self.models]
        weights = self.section.get("weights", "mean")
        return {**common_tree(self), "type": "linear_ener", "models": models, "weights": weights}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], models: list[nn.Module]) -> "LinearModel":
        model = cls({"type": "linear_ener", **{key: tree[key] for key in TREE_KEYS if key in tree}}, models)
        load_common(model, tree)
        return model


class TableSwitchModel(Composite):
    """E_i = c E_table,i + (1 - c) E_network,i, where c falls from 1 to 0 with the distance to the nearest neighbours.

    c is a function of sigma_i = sum_j r e^(-r/a) / sum_j e^(-r/a), a smooth form of the shortest distance: 1 below
    sw_rmin, 0 above sw_rmax and for atoms without neighbours, -6 u^5 + 15 u^4 - 10 u^3 + 1 between.
    Source: Wang et al., Appl. Phys. Lett. 114, 244101 (2019).
    """

    def __init__(self, section: dict[str, Any], models: list[nn.Module]):
        super().__init__(section, models)
        self.sw_rmin, self.sw_rmax = float(section["sw_rmin"]), float(section["sw_rmax"])
        self.alpha = float(section.get("smin_alpha") or 0.1)
        if not self.sw_rmin < self.sw_rmax:
            raise ModelError(f"model/sw_rmax: got {self.sw_rmax}, expected more than sw_rmin ({self.sw_rmin})")

    def share_of_table(self, vectors: Tensor, centers: Tensor, n_centers: int) -> Tensor:
        """c [n_centers]."""
        r = torch.linalg.vector_norm(vectors, dim=1)
        weight = torch.exp(-r / self.alpha)
        zero = torch.zeros(n_centers, dtype=vectors.dtype, device=vectors.device)
        total = zero.index_add(0, centers, weight)
        found = total > 0
        sigma = zero.index_add(0, centers, r * weight) / torch.where(found, total, torch.ones_like(total))
        u = torch.clamp((sigma - self.sw_rmin) / (self.sw_rmax - self.sw_rmin), 0.0, 1.0)
        share = u * u * u * (u * (15.0 - 6.0 * u) - 10.0) + 1.0
        return torch.where(found, share, zero)

    def atom_energy(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
    ) -> Tensor:
        """Atomic energies [n_centers], bias included."""
        types_i = types[:n_centers]
        vectors, centers, neighbors = self.visible(vectors, centers, neighbors, types)
        parts = self.parts(vectors, centers, neighbors, types, n_centers, fparam, aparam)
        share = self.share_of_table(vectors, centers, n_centers)
        energy = share * parts[1] + (1.0 - share) * parts[0] + self.out_bias[types_i]
        return energy * self.atom_keep[types_i]

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        return {
            **common_tree(self),
            "type": "zbl",
            "models": [_inner(model.serialize()) for model in self.models],
            "weights": "mean",
            "sw_rmin": self.sw_rmin,
            "sw_rmax": self.sw_rmax,
            "smin_alpha": self.alpha,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], models: list[nn.Module]) -> "TableSwitchModel":
        keys = (*TREE_KEYS, "sw_rmin", "sw_rmax", "smin_alpha")
        model = cls({"type": "standard", **{key: tree[key] for key in keys if key in tree}}, models)
        load_common(model, tree)
        return model
