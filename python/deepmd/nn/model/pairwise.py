"""Quantum atoms among molecules of a force field: one model of the quantum atoms, one of them with each molecule.

    E = E_qm(quantum atoms) + sum_f E_qmmm(quantum atoms and the atoms of fragment f)

The atomic parameter says what an atom is: 0 for quantum atoms, k > 0 for those of fragment k (a water molecule, say), a
negative number for atoms that are not there. Fragments do not see each other. A quantum atom stands in the second sum
once for each fragment, also where the fragment is out of its reach. Source: Zeng et al., J. Chem. Theory Comput. 17,
6993 (2021), in the pairwise form of DeePMD-kit's `pairwise_dprc`.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.data.graph import Batch
from deepmd.errors import InputError
from deepmd.nn.model.energy import Potential
from deepmd.nn.model.facts import Facts
from deepmd.nn.model.parts import common_tree, load_common, register_common

KIND = "pairwise_dprc"
PARTS = ("qm_model", "qmmm_model")
TREE_KEYS = ("type_map", "pair_exclude_types", "atom_exclude_types", "rcond", "preset_out_bias")


def fragments_of(ids: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """The fragment of each atom [n], counted over all frames, -1 for atoms of none; the frame of each fragment."""
    inside = torch.nonzero(ids > 0).flatten()
    of_atom = torch.full_like(ids, -1)
    if inside.shape[0] == 0:
        return of_atom, inside
    width = int(ids.max()) + 1
    keys, number = torch.unique(frame[inside] * width + ids[inside], return_inverse=True)
    of_atom[inside] = number
    return of_atom, torch.div(keys, width, rounding_mode="floor")


def expand(
    centers: Tensor, neighbors: Tensor, ids: Tensor, frame: Tensor, n_centers: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Atoms and pairs with the quantum atoms once for each fragment of their frame.

    Returns owner [n_expanded], the atom that each one is a copy of, those of the first n_centers atoms first, and of
    the expanded pairs, sorted by centre, the pair that each one is a copy of, its centre and its neighbour.
    """
    of_atom, frame_of = fragments_of(ids, frame)
    qm, mm = torch.nonzero(ids == 0).flatten(), torch.nonzero(ids > 0).flatten()
    rank = torch.zeros_like(ids)
    rank[qm] = torch.arange(qm.shape[0], device=ids.device)
    rank[mm] = torch.arange(mm.shape[0], device=ids.device)
    together = frame_of.unsqueeze(1) == frame[qm].unsqueeze(0)  # [n_fragments, n_qm]
    number = (torch.cumsum(together.flatten().long(), 0) - 1).reshape(together.shape)
    copies = torch.nonzero(together)[:, 1]
    owner = torch.cat([qm[copies], mm])
    n = copies.shape[0]
    f_i, f_j, q_i, q_j = of_atom[centers], of_atom[neighbors], ids[centers] == 0, ids[neighbors] == 0
    both = torch.nonzero(q_i & q_j).flatten()
    repeat = torch.nonzero(frame_of.unsqueeze(1) == frame[centers[both]].unsqueeze(0))  # [., 2]: fragment, pair
    f, qq = repeat[:, 0], both[repeat[:, 1]]
    out = torch.nonzero(q_i & (f_j >= 0)).flatten()
    back = torch.nonzero((f_i >= 0) & q_j).flatten()
    inner = torch.nonzero((f_i >= 0) & (f_i == f_j)).flatten()
    pair = torch.cat([qq, out, back, inner])
    center = torch.cat([
        number[f, rank[centers[qq]]], number[f_j[out], rank[centers[out]]],
        n + rank[centers[back]], n + rank[centers[inner]],
    ])  # fmt: skip
    neighbor = torch.cat([
        number[f, rank[neighbors[qq]]], n + rank[neighbors[out]],
        number[f_i[back], rank[neighbors[back]]], n + rank[neighbors[inner]],
    ])  # fmt: skip
    before = torch.argsort((owner >= n_centers).long(), stable=True)
    place = torch.zeros_like(before)
    place[before] = torch.arange(before.shape[0], device=ids.device)
    center, neighbor = place[center], place[neighbor]
    order = torch.argsort(center, stable=True)
    return owner[before], pair[order], center[order], neighbor[order]


class PairwiseModel(Potential):
    """Atomic energies [n_centers] and pair gradients [n_pairs, 3] of whole frames; aparam [n_centers, 1] is needed."""

    n_types: Final[int]

    def __init__(self, section: dict[str, Any], qm: nn.Module, qmmm: nn.Module, keep_vectors: list[bool] | None = None):
        super().__init__()
        self.section = section
        self.type_map = list(section["type_map"])
        self.n_types = len(self.type_map)
        self.qm, self.qmmm = qm, qmmm
        for part, key in zip((qm, qmmm), PARTS, strict=True):
            check_part(part, f"model/{key}", self.type_map)
        frozen = [section.get(key, {}).get("type") == "frozen" for key in PARTS]
        self.keep_vectors = [not one for one in frozen] if keep_vectors is None else list(keep_vectors)
        for part, keep in zip((qm, qmmm), self.keep_vectors, strict=True):
            if keep:
                keep_types_in_vacuum(part)
        if not any(frozen):
            share_types(qm, qmmm)
        self.qm_rcut, self.qmmm_rcut = float(qm.facts().rcut), float(qmmm.facts().rcut)
        self.register_buffer("qmmm_sees", relevant_pairs(qmmm))
        register_common(self)
        self.min_pair_distance: float | None = None

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
        """Atomic energies [n_centers] of one frame, bias included, zero for absent atoms; aparam [n_all, 1].

        Where there are more atoms than centres, fragments may be out of sight, which must not matter.
        """
        assert aparam is not None, "this model needs to know the fragment of each atom (aparam)"
        frame = torch.zeros_like(types)
        if n_centers < types.shape[0]:
            alone = self.far_energy(vectors, centers, neighbors, types, aparam, n_centers)
            assert bool((alone.abs() < 1e-8).all()), (  # eV; more would depend on how a frame is cut
                "a fragment out of reach adds energy to quantum atoms in this model, so it needs whole frames: run it "
                "on one rank, or train qmmm_model with exclude_types of all pairs within one side, set_davg_zero and "
                "atom_ener of zeros"
            )
        return self.energy_of_centers(vectors, centers, neighbors, types, aparam, frame, n_centers)

    def far_energy(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, aparam: Tensor, n_centers: int
    ) -> Tensor:
        """What a fragment out of reach adds to the energy of each quantum atom among the centres [n_quantum]."""
        ids = torch.round(aparam[:, 0]).long()
        qm = torch.nonzero(ids == 0).flatten()
        rank = torch.cumsum((ids == 0).long(), 0) - 1
        r = torch.linalg.vector_norm(vectors, dim=1)
        seen = self.pair_keep[types[centers], types[neighbors]] & self.qmmm_sees[types[centers], types[neighbors]]
        inside = (ids[centers] == 0) & (ids[neighbors] == 0)
        near = torch.nonzero(seen & inside & (r < self.qmmm_rcut)).flatten()
        n_own = int((qm < n_centers).sum())
        c, n = rank[centers[near]], rank[neighbors[near]]
        with torch.no_grad():
            return self.qmmm.atom_energy(vectors[near], c, n, types[qm], n_own, None, None)

    def energy_of_frames(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, aparam: Tensor, frame: Tensor
    ) -> Tensor:
        """Atomic energies [n_atoms] of several frames; frame [n_atoms]."""
        return self.energy_of_centers(vectors, centers, neighbors, types, aparam, frame, types.shape[0])

    def energy_of_centers(
        self,
        vectors: Tensor,
        centers: Tensor,
        neighbors: Tensor,
        types: Tensor,
        aparam: Tensor,
        frame: Tensor,
        n_centers: int,
    ) -> Tensor:
        """Atomic energies [n_centers]; the other atoms are neighbours only."""
        ids = torch.round(aparam[:, 0]).long()
        r = torch.linalg.vector_norm(vectors.detach(), dim=1)
        seen = self.pair_keep[types[centers], types[neighbors]]
        energy = torch.zeros(n_centers, dtype=torch.float64, device=vectors.device)
        qm = torch.nonzero(ids == 0).flatten()
        own_qm = qm[qm < n_centers]
        rank = torch.zeros_like(ids)
        rank[qm] = torch.arange(qm.shape[0], device=ids.device)
        near = torch.nonzero(seen & (r < self.qm_rcut) & (ids[centers] == 0) & (ids[neighbors] == 0)).flatten()
        c, n = rank[centers[near]], rank[neighbors[near]]
        if own_qm.shape[0] > 0:
            own = self.qm.atom_energy(vectors[near], c, n, types[qm], own_qm.shape[0], None, None)
            energy = energy.index_add(0, own_qm, own + self.out_bias[types[own_qm]])
        near = torch.nonzero(seen & (r < self.qmmm_rcut) & self.qmmm_sees[types[centers], types[neighbors]]).flatten()
        owner, pair, c, n = expand(centers[near], neighbors[near], ids, frame, n_centers)
        own_copies = owner[owner < n_centers]
        if own_copies.shape[0] > 0:
            of_copies = self.qmmm.atom_energy(
                vectors[near[pair]], c, n, types[owner], own_copies.shape[0], None, None
            )
            energy = energy.index_add(0, own_copies, of_copies)
        return energy * self.atom_keep[types[:n_centers]]

    @torch.jit.unused
    def facts(self) -> Facts:
        parts = [self.qm.facts(), self.qmmm.facts()]
        widest = max(parts, key=lambda facts: facts.rcut)
        single = any(facts.precision == "float32" for facts in parts)
        return Facts(
            kind=KIND,
            rcut=widest.rcut,
            rcut_smth=widest.rcut_smth,
            sel=widest.sel,
            dim_aparam=1,
            precision="float32" if single else "float64",
            passes_messages=any(facts.passes_messages for facts in parts),
            receptive_field=max(facts.receptive_field or facts.rcut for facts in parts),
        )

    @torch.jit.unused
    def part_batch(self, batch: Batch, descriptor: nn.Module) -> Batch:
        """A batch as one of the two descriptors sees it, for the statistics of rows."""
        arrays = (batch.types, batch.frame, batch.centers, batch.neighbor)
        types, frame, centers, neighbors = (torch.from_numpy(np.asarray(a, dtype=np.int64)) for a in arrays)
        ids = torch.from_numpy(batch.labels["aparam"][:, 0]).round().long()
        if any(descriptor is one for one in self.qm.descriptors()):
            owner = torch.nonzero(ids == 0).flatten()
            rank = torch.cumsum((ids == 0).long(), 0) - 1
            pair = torch.nonzero((ids[centers] == 0) & (ids[neighbors] == 0)).flatten()
            c, n = rank[centers[pair]], rank[neighbors[pair]]
        else:
            owner, pair, c, n = expand(centers, neighbors, ids, frame, len(types))
        first = np.concatenate([[0], np.cumsum(np.bincount(c.numpy(), minlength=len(owner)))]).astype(np.int64)
        own_types, own_frame = (array[owner].numpy().astype(np.int32) for array in (types, frame))
        sizes = np.bincount(own_frame, minlength=batch.n_frames).astype(np.float64)
        return Batch(own_types, own_frame, batch.n_frames, first, n.numpy().astype(np.int32),
                     batch.vectors[pair.numpy()], sizes, {}, {}, batch.origin)  # fmt: skip

    @torch.jit.unused
    def counted(self, batch: Batch) -> np.ndarray:
        """Which atoms of a batch the bias is fitted to [n_atoms]: the quantum atoms."""
        return (np.round(batch.labels["aparam"][:, 0]) == 0).astype(np.float64)

    @torch.jit.unused
    def seen_pairs(self) -> np.ndarray:
        return self.pair_keep.numpy()

    @torch.jit.unused
    def descriptors(self) -> list[nn.Module]:
        return [*self.qm.descriptors(), *self.qmmm.descriptors()]

    @torch.jit.unused
    def fittings(self) -> list[nn.Module]:
        return [*self.qm.fittings(), *self.qmmm.fittings()]

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        """A tree of this program's own; DeePMD-kit has none for such models."""
        models = [self.qm.serialize(), self.qmmm.serialize()]
        return {**common_tree(self), "type": KIND, "@version": 1, "models": models, "keep_vectors": self.keep_vectors}

    @classmethod
    def deserialize(cls, tree: dict[str, Any], models: list[nn.Module], section: dict[str, Any]) -> "PairwiseModel":
        own = {**section, "type": KIND, **{key: tree[key] for key in TREE_KEYS if key in tree}}
        model = cls(own, models[0], models[1], [bool(one) for one in tree["keep_vectors"]])
        load_common(model, tree)
        return model


def check_part(part: nn.Module, path: str, type_map: list[str]) -> None:
    """Refuses a part that does not predict energies of these types without parameters."""
    facts = part.facts()
    if facts.kind != "energy":
        raise InputError(f"{path}: got a model that predicts '{facts.kind}', expected energies")
    if facts.dim_fparam or facts.dim_aparam:
        raise InputError(f"{path}: got a model with fparam or aparam, expected none, as aparam names the fragments")
    if list(part.type_map) != list(type_map):
        raise InputError(f"{path}/type_map: got {part.type_map}, expected {type_map}, as that of the whole")


def keep_types_in_vacuum(part: nn.Module) -> None:
    """`atom_ener` takes off what the network says of an atom without surroundings, which still has its type."""
    descriptor = getattr(part, "descriptor", None)
    if getattr(descriptor, "joins_types", False):
        part.fitting.n_vacuum_kept = descriptor.type_embedding.width


def share_types(qm: nn.Module, qmmm: nn.Module) -> None:
    """Both parts tell types apart by the same vectors, where both do so."""
    first, second = (getattr(part.descriptor, "type_embedding", None) for part in (qm, qmmm))
    if first is None or second is None:
        return
    if first.width != second.width or len(first.network.layers) != len(second.network.layers):
        raise InputError(
            f"model/qmmm_model/descriptor/tebd_dim: got {second.width}, expected {first.width}, as both parts share "
            "the vectors of the types"
        )
    qmmm.descriptor.type_embedding = first


def relevant_pairs(part: nn.Module) -> Tensor:
    """Pairs of types whose vectors can change the part's energies [n_types, n_types] bool; others need no copies.

    An excluded pair has a row of zeros in a slot that is not empty: only where empty slots are zeros too it is nothing.
    """
    n, descriptor = len(part.type_map), getattr(part, "descriptor", None)
    if descriptor is None:  # a sum of models
        return torch.ones(n, n, dtype=torch.bool)
    seen = torch.zeros(n, n, dtype=torch.bool)
    for environment in descriptor.environments():
        attends = len(getattr(environment, "attention", [])) > 0
        plain = environment.set_davg_zero and not attends
        seen |= (environment.keep > 0) if plain else torch.ones(n, n, dtype=torch.bool)
    return seen
