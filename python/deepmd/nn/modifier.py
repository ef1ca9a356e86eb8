"""What a model of short range leaves to somebody else, and what is therefore taken off the labels it is trained on.

`dipole_charge`: the electrostatics of smeared charges on the atoms and on the centroids of their electrons, which stand
at r + mu(r), mu being what a frozen model of dipoles says. Energies, forces and virials are derivatives of one number,
the part of the centroids' forces that goes through mu(r) included.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd import model_file
from deepmd.errors import DataError, InputError, ModelError
from deepmd.nn.ewald import ewald_energy, grid_sizes
from deepmd.nn.frames import assemble, find_pairs

NUMBERS = ("type", "model_charge_map", "sys_charge_map", "ewald_h", "ewald_beta")
"""Keys of the section that describe the modifier; the dipole model itself travels as a file."""
SELFTEST_TOLERANCE = 1e-8  # eV and eV/Angstrom, as that of models


def modifier_of(model: Any) -> DipoleCharge | None:
    """The modifier that a model goes with."""
    return getattr(model, "modifier", None)


class DipoleCharge:
    """The modifier `dipole_charge`.

    section: `model/modifier` of the input. type_map: names of the types that `evaluate` is given. content: the bytes of
    a frozen model of dipoles, which is opened, and proves itself, here.
    """

    def __init__(self, section: dict[str, Any], type_map: list[str], content: bytes):
        from deepmd.infer.scripted import ScriptedModel

        self.section = {key: section[key] for key in NUMBERS}
        self.type_map = list(type_map)
        self.content = content
        name = section.get("model_name", "the dipole model")
        with tempfile.TemporaryDirectory(prefix="deepmd-") as folder:
            file = Path(folder) / "dipole.pth"
            file.write_bytes(content)
            kind = model_file.read(file).metadata["kind"]
            if kind != "dipole":
                raise InputError(f"model/modifier/model_name: {name} predicts '{kind}', expected a model of dipoles")
            self.dipole = ScriptedModel(file)
        self.beta, self.spacing = float(section["ewald_beta"]), float(section["ewald_h"])
        self._settle(section, name)

    def _settle(self, section: dict[str, Any], name: str) -> None:
        """Charges by type of `type_map`, and the index of each type in the dipole model."""
        known = self.dipole.type_map
        missing = [one for one in self.type_map if one not in known]
        if missing:
            raise InputError(
                f"model/modifier/model_name: {name} knows the types {' '.join(known)} and not {' '.join(missing)}; "
                "expected all types of model/type_map"
            )
        if self.dipole.dim_fparam or self.dipole.dim_aparam:
            raise InputError(
                f"model/modifier/model_name: {name} takes fparam or aparam, expected a model without parameters"
            )
        selected = list(self.dipole.output["sel_type"])
        wannier = [float(q) for q in section["model_charge_map"]]
        if len(wannier) != len(selected):
            elements = " ".join(known[t] for t in selected)
            raise InputError(
                f"model/modifier/model_charge_map: got {len(wannier)} charges, expected {len(selected)}, one for each "
                f"type that {name} gives a dipole: {elements}"
            )
        self.charges = np.array([float(q) for q in section["sys_charge_map"]])
        self.type_of = np.array([known.index(one) for one in self.type_map])
        site = {t: q for t, q in zip(selected, wannier, strict=True)}
        self.has_site = np.isin(self.type_of, selected)
        self.site_charges = np.array([site.get(int(t), 0.0) for t in self.type_of])

    def evaluate(self, positions: np.ndarray, types: np.ndarray, cell: Any, pbc: Any = None) -> dict[str, Any]:
        """energy (eV), forces [n, 3], virial [3, 3] of one periodic frame; types [n] index `type_map`."""
        if cell is None or (pbc is not None and not all(pbc)):
            raise DataError(
                "the modifier 'dipole_charge' sums over periodic images and got open boundaries; give a periodic cell"
            )
        positions = np.ascontiguousarray(np.asarray(positions, dtype=np.float64).reshape(-1, 3))
        cell = np.array(cell, dtype=np.float64).reshape(3, 3)
        types = np.asarray(types, dtype=np.int64)
        pairs = find_pairs(positions, cell, self.dipole.rcut)
        r, box, vectors = (torch.from_numpy(a).requires_grad_(True) for a in (positions, cell, pairs.vectors))
        dipoles = self.dipole.atom_output(vectors, pairs, self.type_of[types])
        chosen = torch.from_numpy(self.has_site[types])
        sites = torch.cat([r, r[chosen] + dipoles[chosen]])
        charges = np.concatenate([self.charges[types], self.site_charges[types][chosen.numpy()]])
        energy = ewald_energy(sites, torch.from_numpy(charges), box, grid_sizes(cell, self.spacing), self.beta)
        of_r, of_box, of_pairs = torch.autograd.grad(energy, (r, box, vectors), allow_unused=True)
        gradient = np.zeros_like(pairs.vectors) if of_pairs is None else of_pairs.numpy()
        forces, virial = assemble(pairs, gradient, len(types))
        virial = virial - of_r.numpy().T @ positions - of_box.numpy().T @ cell
        return {"energy": float(energy.detach()), "forces": forces - of_r.numpy(), "virial": virial}

    def identity(self) -> list[Any]:
        """Everything that the answers depend on."""
        return [self.section, hashlib.sha256(self.content).hexdigest()]

    def describe(self) -> str:
        """One line for logs."""
        sites = zip(self.type_map, self.site_charges, self.has_site, strict=True)
        centroids = ", ".join(f"{name} {q:+g}" for name, q, has in sites if has)
        charges = ", ".join(f"{name} {q:+g}" for name, q in zip(self.type_map, self.charges, strict=True))
        numbers = f"ewald_h {self.spacing:g}, ewald_beta {self.beta:g}"
        return f"dipole_charge: charges {charges}; centroids {centroids}; {numbers}"

    def proof(self, frame: dict[str, np.ndarray]) -> dict[str, Any]:
        """What a frozen file stores, so that readers can see that they compute the same; frame: a self-test frame."""
        result = self.evaluate(frame["positions"], frame["types"], frame["cell"])
        return {"energy": result["energy"], "forces": result["forces"].tolist(), "virial": result["virial"].tolist()}

    def deviation_from(self, proof: dict[str, Any], frame: dict[str, np.ndarray]) -> float:
        """Largest difference from a stored proof, by atom for the energy."""
        result = self.evaluate(frame["positions"], frame["types"], frame["cell"])
        differences = [np.abs(result[key] - np.asarray(proof[key])).max() for key in ("forces", "virial")]
        return float(max(*differences, abs(result["energy"] - proof["energy"]) / len(frame["types"])))


def open_modifier(section: dict[str, Any] | None, type_map: list[str]) -> DipoleCharge | None:
    """The modifier of a model section, None without one; `model_name` becomes an absolute path (in place)."""
    if section is None:
        return None
    from deepmd.infer.opening import FROZEN, find_model, freeze_temporarily

    file = find_model(section["model_name"])
    section["model_name"] = str(file.resolve())
    if file.suffix.lower() == FROZEN:
        return DipoleCharge(section, type_map, file.read_bytes())
    if file.suffix.lower() == ".pb":
        raise ModelError(
            f"model/modifier/model_name: got {file}, a TensorFlow graph, expected a model that dp freeze wrote (.pth), "
            "a checkpoint or a .dp file; convert it with DeePMD-kit's dp convert-backend to .dp"
        )
    with tempfile.TemporaryDirectory(prefix="deepmd-") as folder:
        frozen = Path(folder) / f"dipole{FROZEN}"
        freeze_temporarily(file, frozen, None)
        return DipoleCharge(section, type_map, frozen.read_bytes())
