"""A Lennard-Jones model in the frozen file format, with its answers in closed form.

u(r) = 4 eps [(sigma/r)^12 - (sigma/r)^6] w(r), w = (1 - (r/rcut)^2)^3, half of it for either atom; eps depends on the
types. With parameters E_i = (1 + 0.01 sum aparam_i) sum_j u_ij / 2 + 0.1 sum fparam.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepmd import model_file

SIGMA = 2.0
EPS = np.array([[0.10, 0.07], [0.07, 0.05]])


class ToyLj(torch.nn.Module):
    """The contract of the C++ core: pairs in, atom energies and dE/d(pair vector) out."""

    def __init__(self, rcut: float, sigma: float = SIGMA):
        super().__init__()
        self.rcut = rcut
        self.sigma = sigma
        self.eps = torch.nn.Parameter(torch.tensor(EPS))

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        types: torch.Tensor,
        n_centers: int,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        vectors = vectors.detach().requires_grad_(True)
        r2 = (vectors * vectors).sum(dim=1)
        s6 = (self.sigma * self.sigma / r2) ** 3
        smooth = (1.0 - r2 / (self.rcut * self.rcut)) ** 3
        pair = 2.0 * self.eps[types[centers], types[neighbors]] * (s6 * s6 - s6) * smooth
        energy = torch.zeros(n_centers, dtype=torch.float64, device=vectors.device).index_add(0, centers, pair)
        if aparam is not None:
            energy = energy * (1.0 + 0.01 * aparam.sum(dim=1))
        if fparam is not None:
            energy = energy + 0.1 * fparam.sum(dim=1)
        gradient = torch.autograd.grad([energy.sum()], [vectors], allow_unused=True)[0]
        if gradient is None:
            gradient = torch.zeros_like(vectors)
        return {"atom_energy": energy.detach(), "pair_gradient": gradient}


@dataclass
class Options:
    """What a test wants to be different from the plain model."""

    rcut: float = 5.0
    dim_fparam: int = 0
    dim_aparam: int = 0
    default_fparam: list[float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    module: torch.nn.Module | None = None
    drop: tuple[str, ...] = ()


def random_frame(n_atoms: int, length: float | None, seed: int) -> dict[str, np.ndarray]:
    """positions [n, 3], types [n], and a skewed cell [3, 3] with edges near `length` unless that is None."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n_atoms ** (1 / 3)))
    edge = length or 2.2 * side
    cell = edge * (np.eye(3) + np.tril(rng.uniform(-0.25, 0.25, (3, 3)), -1))
    sites = np.array(list(itertools.product(range(side), repeat=3)))[:n_atoms] / side
    frame = {"positions": sites @ cell + rng.normal(0, 0.08, (n_atoms, 3)), "types": np.arange(n_atoms) % 2}
    return frame if length is None else {**frame, "cell": cell}


def image_shifts(cell: np.ndarray | None, pbc: Any, rcut: float) -> np.ndarray:
    """All lattice shifts [n, 3] that can bring a point of a box of wrapped atoms within rcut of another."""
    if cell is None:
        return np.zeros((1, 3), dtype=int)
    periodic = np.ones(3, dtype=bool) if pbc is None else np.asarray(pbc, dtype=bool)
    full = np.where(periodic[:, None], cell, 0.0)
    reach = np.zeros(3, dtype=int)
    # The pseudo-inverse holds the reciprocal vectors of the periodic directions; their length is 1 / height.
    heights = np.linalg.norm(np.linalg.pinv(full), axis=0)
    reach[periodic] = np.ceil(rcut * heights[periodic]).astype(int) + 1
    return np.array(list(itertools.product(*[range(-k, k + 1) for k in reach])))


def closed_form(frame: dict[str, np.ndarray], options: Options | None = None, pbc: Any = None) -> dict[str, np.ndarray]:
    """energy [1], forces [n, 3], virial [3, 3], atom_energy [n], atom_virial [n, 3, 3] by loops over images."""
    options = options or Options()
    rcut, positions, cell = options.rcut, frame["positions"], frame.get("cell")
    n = len(positions)
    eps = EPS[np.ix_(frame["types"], frame["types"])]
    scale = 1.0 + 0.01 * frame["aparam"].sum(axis=1) if "aparam" in frame else np.ones(n)
    energy = np.full(n, 0.1 * frame["fparam"].sum() if "fparam" in frame else 0.0)
    forces, atom_virial = np.zeros((n, 3)), np.zeros((n, 3, 3))
    for shift in image_shifts(cell, pbc, rcut):
        vectors = positions[None] - positions[:, None] + (0.0 if cell is None else shift @ cell)
        r = np.linalg.norm(vectors, axis=2)
        if not shift.any():
            np.fill_diagonal(r, np.inf)
        near = r < rcut
        safe = np.where(near, r, rcut)
        s6, w = (SIGMA / safe) ** 6, 1.0 - (safe / rcut) ** 2
        u = 2.0 * eps * (s6**2 - s6) * w**3
        du = 2.0 * eps * ((-12 * s6**2 + 6 * s6) / safe * w**3 - (s6**2 - s6) * 6 * safe / rcut**2 * w**2)
        energy += scale * np.where(near, u, 0.0).sum(axis=1)
        g = (np.where(near, scale[:, None] * du, 0.0) / safe)[..., None] * vectors
        forces += g.sum(axis=1) - g.sum(axis=0)
        atom_virial -= np.einsum("ija,ijb->jab", g, vectors)
    total = {"energy": np.array([energy.sum()]), "forces": forces, "virial": atom_virial.sum(axis=0)}
    return {**total, "atom_energy": energy, "atom_virial": atom_virial}


def write_toy(path: str | Path, options: Options | None = None) -> Path:
    """Writes the model with two self-test frames; returns the path."""
    options = options or Options()
    selftest: dict[str, np.ndarray] = {}
    for k, length in enumerate([6.5, None]):
        frame = random_frame(12, length, seed=k)
        if options.dim_fparam:
            frame["fparam"] = np.linspace(0.5, 1.0, options.dim_fparam)
        if options.dim_aparam:
            frame["aparam"] = np.linspace(0.0, 2.0, 12 * options.dim_aparam).reshape(12, -1)
        answers = {name: value for name, value in closed_form(frame, options).items() if name != "atom_virial"}
        selftest.update({f"{k}.{name}": value for name, value in {**frame, **answers}.items()})
    metadata = {
        "format": model_file.FORMAT,
        "format_version": model_file.FORMAT_VERSION,
        "software_version": "0.1.0",
        "kind": "energy",
        "type_map": ["Ar", "Ne"],
        "rcut": options.rcut,
        "rcut_smth": 0.5,
        "sel": [40, 40],
        "dim_fparam": options.dim_fparam,
        "dim_aparam": options.dim_aparam,
        "default_fparam": options.default_fparam,
        "min_pair_distance": None,
        "model_def_script": {},
        "training_script": None,
        "selftest": {"n_frames": 2, "tolerance": 1e-8},
        "precision": "float64",
        "torch_version": torch.__version__,
        "created": "2026-01-01T00:00:00",
    } | options.metadata
    for name in options.drop:
        del metadata[name]
    scripted = torch.jit.script(options.module or ToyLj(options.rcut).requires_grad_(False))
    model_file.write(path, scripted, model_file.FrozenModel(metadata, {"@variables": {}}, selftest))
    return Path(path)


if __name__ == "__main__":
    write_toy(sys.argv[1])
