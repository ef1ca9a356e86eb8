"""Potentials of positions and spins: a virtual atom of a type of its own stands beside each atom with a spin.

    r_v = r_i + scale[t_i] S_i,   E = sum of the energies of the real atoms;   F = -dE/dr,   force_mag = -dE/dS

The backbone is an ordinary energy model with twice the types: those of virtual atoms follow those of real ones. Virtual
atoms of types without a spin are neighbours of nobody. A virtual atom moves with its atom, so that the virial is that
of the pair vectors between real atoms. Source: Yang et al., npj Comput. Mater. 10, 161 (2024).
"""

import copy
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.data.graph import Batch
from deepmd.nn.model.energy import EnergyModel
from deepmd.nn.model.facts import Facts

PROTECTION = 0.01  # Angstrom: keeps the rows of atoms on top of each other finite, as for spins of zero
REACH = 0.5  # Angstrom: how far from its atom a virtual atom can be, where no data have said more
REACH_NOTE = "spin_reach"
"""Under this name the reach travels in `info` of the model's section, as the neutral tree has no place for it."""
BY_TYPE = ("se_e2_a", "se_e2_r", "se_e3", "se_a", "se_r", "se_t", "se_at", "se_a_3be")


def backbone_section(section: dict[str, Any]) -> dict[str, Any]:
    """The section of the energy model with twice the types."""
    names, magnetic = list(section["type_map"]), section["spin"]["use_spin"]
    n = len(names)
    unseen = [[n + t, other] for t in range(n) if not magnetic[t] for other in range(2 * n)]
    pairs = [*unseen, *section.get("pair_exclude_types", [])]
    descriptor = copy.deepcopy(section["descriptor"])
    for part in descriptor.get("list", [descriptor]):
        part["exclude_types"] = [*unseen, *(part.get("exclude_types") or [])]
        part["env_protection"] = part.get("env_protection") or PROTECTION
        if part["type"] in BY_TYPE:
            part["sel"] = [*part["sel"], *part["sel"]]
    return {
        **{key: value for key, value in section.items() if key != "spin"},
        "type_map": names + [f"{name}_spin" for name in names],
        "pair_exclude_types": pairs,
        "atom_exclude_types": [*range(n, 2 * n), *section.get("atom_exclude_types", [])],
        "preset_out_bias": None,
        "descriptor": descriptor,
    }


class SpinModel(nn.Module):
    """Atomic energies [n_centers], and gradients by pair vectors [n_pairs, 3] and by spins [n_all, 3]."""

    __jit_unused_properties__ = ["fitting", "descriptor", "out_bias", "out_std", "spins_may_lack"]
    n_types: Final[int]
    messages: Final[bool]
    rcut: Final[float]

    def __init__(self, section: dict[str, Any], backbone: EnergyModel):
        super().__init__()
        self.section = section
        self.type_map = list(section["type_map"])
        self.n_types = len(self.type_map)
        self.backbone = backbone
        self.rcut = float(backbone.descriptor.rcut)
        self.messages = bool(backbone.descriptor.passes_messages)
        scale = torch.tensor(section["spin"]["virtual_scale"], dtype=torch.float64)
        magnetic = torch.tensor(section["spin"]["use_spin"], dtype=torch.float64)
        self.register_buffer("scale", scale * magnetic)  # [n_types] Angstrom per Bohr magneton
        self.register_buffer("reach", torch.tensor([REACH], dtype=torch.float64))
        self.min_pair_distance: float | None = None

    def pairs(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, offset: Tensor, n_centers: int, every: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of real and virtual atoms, the virtual ones numbered after all real ones; every: virtual centres too.

        offset [n_all, 3] from each atom to its virtual atom.
        """
        n_all = offset.shape[0]
        own = torch.arange(n_centers, device=vectors.device)
        v, c, n = [vectors, vectors + offset[neighbors], offset[:n_centers]], [centers, centers, own], [
            neighbors, neighbors + n_all, own + n_all]  # fmt: skip
        if every:
            start = offset[centers]
            v += [vectors - start, vectors + offset[neighbors] - start, -offset[:n_centers]]
            c += [centers + n_all, centers + n_all, own + n_all]
            n += [neighbors, neighbors + n_all, own]
        vector, center, neighbor = torch.cat(v), torch.cat(c), torch.cat(n)
        near = torch.nonzero(torch.sum(vector.detach() ** 2, dim=1) < self.rcut**2).flatten()
        order = near[torch.argsort(center[near], stable=True)]
        return vector[order], center[order], neighbor[order]

    def seen_by_backbone(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int, spin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pairs of real and virtual atoms within the cutoff, and the types of all of these atoms [2 n_all]."""
        offset = spin * self.scale[types].unsqueeze(1)
        longest = torch.linalg.vector_norm(offset.detach(), dim=1)
        assert bool((longest <= self.reach).all()), "a spin is longer than the model was made for"
        v, c, n = self.pairs(vectors, centers, neighbors, offset, n_centers, self.messages)
        all_types = torch.cat([types, types + self.n_types])
        seen = torch.nonzero(self.backbone.pair_keep[all_types[c], all_types[n]]).flatten()
        return v[seen], c[seen], n[seen], all_types

    @torch.jit.unused
    def describe_atoms(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int, spin: Tensor
    ) -> Tensor:
        """Descriptors of the real atoms [n_centers, dim]."""
        v, c, n, all_types = self.seen_by_backbone(vectors, centers, neighbors, types, n_centers, spin)
        n_described = all_types.shape[0] if self.messages else n_centers
        return self.backbone.descriptor(v, c, n, all_types, n_described)[0][:n_centers]

    def atom_energy(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None,
        aparam: Tensor | None,
        spin: Tensor,
    ) -> Tensor:
        """Energies of the real atoms [n_centers], bias included; spin [n_all, 3] in Bohr magnetons."""
        v, c, n, all_types = self.seen_by_backbone(vectors, centers, neighbors, types, n_centers, spin)
        if not self.messages:
            return self.backbone.atom_energy(v, c, n, all_types, n_centers, fparam, aparam)
        double_f = None if fparam is None else torch.cat([fparam, fparam])
        double_a = None if aparam is None else torch.cat([aparam, torch.zeros_like(aparam)])
        energy = self.backbone.atom_energy(v, c, n, all_types, all_types.shape[0], double_f, double_a)
        return energy[:n_centers]

    def forward(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        n_centers: int,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
        spin: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """As energy models, with spin [n_all, 3]; also returns spin_gradient [n_all, 3] = dE/dS, zero without spins.

        The vectors go as far as the cutoff of the model's facts, which is beyond that of the descriptor.
        """
        assert spin is not None, "this model needs the spins of the atoms (spin)"
        if not vectors.requires_grad:
            vectors = vectors.detach().requires_grad_(True)
        if not spin.requires_grad:
            spin = spin.detach().requires_grad_(True)
        energy = self.atom_energy(vectors, centers, neighbors, types, n_centers, fparam, aparam, spin)
        by_vector, by_spin = torch.zeros_like(vectors), torch.zeros_like(spin)
        if energy.requires_grad:
            found = torch.autograd.grad(
                [energy.sum()], [vectors, spin], create_graph=self.training, allow_unused=True
            )
            first, second = found[0], found[1]
            if first is not None:
                by_vector = first
            if second is not None:
                by_spin = second
        return {"atom_energy": energy, "pair_gradient": by_vector, "spin_gradient": by_spin}

    @property
    def fitting(self) -> nn.Module:
        return self.backbone.fitting

    @property
    def descriptor(self) -> nn.Module:
        return self.backbone.descriptor

    @property
    def spins_may_lack(self) -> bool:
        """Whether data without spins count as data with spins of zero."""
        return bool(self.section["spin"].get("allow_missing_label", False))

    @property
    def out_bias(self) -> Tensor:
        """Of the real types; a view."""
        return self.backbone.out_bias[: self.n_types]

    @property
    def out_std(self) -> Tensor:
        return self.backbone.out_std[: self.n_types]

    @torch.jit.unused
    def cover(self, longest: Tensor) -> None:
        """Makes room for spins of these lengths, the largest of each type [n_types] in Bohr magnetons."""
        needed = 1.1 * float((longest * self.scale).max())
        self.reach.copy_(torch.clamp(self.reach, min=needed))
        self.section["info"] = {**(self.section.get("info") or {}), REACH_NOTE: float(self.reach)}

    @torch.jit.unused
    def facts(self) -> Facts:
        inner = self.backbone.facts()
        spin = self.section["spin"]
        return Facts(
            kind="spin",
            rcut=self.rcut + 2.0 * float(self.reach),
            rcut_smth=inner.rcut_smth,
            sel=inner.sel,
            dim_fparam=inner.dim_fparam,
            dim_aparam=inner.dim_aparam,
            default_fparam=inner.default_fparam,
            precision=inner.precision,
            passes_messages=inner.passes_messages,
            receptive_field=(inner.receptive_field or inner.rcut) + 2.0 * float(self.reach),
            output={"use_spin": list(spin["use_spin"]), "virtual_scale": list(spin["virtual_scale"]),
                    "reach": float(self.reach)},
            inputs=("spin",),
        )  # fmt: skip

    @torch.jit.unused
    def row_batch(self, batch: Batch) -> Batch:
        """A batch with virtual atoms as atoms, for the statistics of rows."""
        types = torch.from_numpy(batch.types.astype(np.int64))
        offset = torch.from_numpy(batch.labels["spin"]) * self.scale[types].unsqueeze(1)
        arrays = (batch.vectors, batch.centers, batch.neighbor.astype(np.int64))
        tensors = [torch.from_numpy(np.ascontiguousarray(one)) for one in arrays]
        vectors, centers, neighbors = self.pairs(*tensors, offset, len(types), True)
        both = torch.cat([types, types + self.n_types])
        seen = self.backbone.pair_keep[both[centers], both[neighbors]]
        counts = np.bincount(centers[seen].numpy(), minlength=len(both))
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Batch(
            both.numpy().astype(np.int32), np.tile(batch.frame, 2), batch.n_frames, first,
            neighbors[seen].numpy().astype(np.int32), vectors[seen].numpy(), 2 * batch.atoms_per_frame, {}, {},
            batch.origin,
        )  # fmt: skip

    @torch.jit.unused
    def seen_pairs(self) -> np.ndarray:
        """All: a pair of real atoms that the model does not see can have virtual atoms that it sees."""
        return np.ones((self.n_types, self.n_types), dtype=bool)

    @torch.jit.unused
    def fittings(self) -> list[nn.Module]:
        return self.backbone.fittings()

    @torch.jit.unused
    def descriptors(self) -> list[nn.Module]:
        return self.backbone.descriptors()

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        spin = self.section["spin"]
        values = {key: list(spin[key]) for key in ("use_spin", "virtual_scale")}
        return {"type": "spin_ener", "backbone_model": self.backbone.serialize(), "spin": values}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], backbone: EnergyModel, section: dict[str, Any]) -> "SpinModel":
        n = len(backbone.type_map) // 2
        scale = np.broadcast_to(np.asarray(tree["spin"]["virtual_scale"], dtype=float), (n,))
        spin = {"use_spin": [bool(one) for one in tree["spin"]["use_spin"]], "virtual_scale": scale.tolist()}
        spin["allow_missing_label"] = bool((section.get("spin") or {}).get("allow_missing_label", False))
        model = cls({**section, "type_map": backbone.type_map[:n], "spin": spin}, backbone)
        model.reach[:] = float((section.get("info") or {}).get(REACH_NOTE, REACH))
        return model
