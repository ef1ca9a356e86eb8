"""Energies, forces and magnetic forces from positions and spins."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.errors import InputError
from deepmd.infer.deep_eval import DeepEval, refuse_extensions
from deepmd.infer.shapes import arrange


class DeepSpin(DeepEval):
    """A potential of positions and spins. Energies in eV, spins in Bohr magnetons."""

    kind = "spin"
    extra_inputs = ("spin",)

    @property
    def has_spin(self) -> bool:
        return True

    def get_ntypes_spin(self) -> int:
        """Number of magnetic types."""
        return sum(self.use_spin)

    @property
    def use_spin(self) -> list[bool]:
        """Whether each type carries a spin."""
        return list(self.metadata["output"]["use_spin"])

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        spin: Any = None,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        """Evaluates frames, as `DeepPot.eval` does; spin: (n_frames, n_atoms, 3) or flat.

        Returns energy (n_frames, 1), force (n_frames, n_atoms, 3), virial (n_frames, 9), with atomic atom_energy and
        atom_virial, and then force_mag = -dE/d(spin) (n_frames, n_atoms, 3) and mask_mag (n_frames, n_atoms, 1), true
        for atoms of types that carry a spin.
        """
        refuse_extensions(kwargs)
        frames = self.frames(coords, cells, atom_types, mixed_type, fparam, aparam)
        n_frames, n_atoms = frames.types.shape
        spins = spread_spins(spin, n_frames, n_atoms)
        energy, virial = np.zeros((n_frames, 1)), np.zeros((n_frames, 9))
        force, force_mag = np.zeros((2, n_frames, n_atoms, 3))
        atom_energy, atom_virial = np.zeros((n_frames, n_atoms, 1)), np.zeros((n_frames, n_atoms, 9))
        for k, (arguments, real) in enumerate(frames):
            result = self.evaluate_frame(**arguments, spin=spins[k][real], atomic=atomic)
            energy[k], virial[k] = result["energy"], np.ravel(result["virial"])
            force[k, real], force_mag[k, real] = result["forces"], result["force_mag"]
            if atomic:
                atom_energy[k, real, 0] = result["atom_energy"]
                atom_virial[k, real] = np.reshape(result["atom_virial"], (-1, 9))
        magnetic = np.array([*self.use_spin, False])[frames.types][:, :, None]  # -1, of padding, is the last
        parts = (atom_energy, atom_virial) if atomic else ()
        return (energy, force, virial, *parts, force_mag, magnetic)

    def eval_descriptor(
        self, coords: Any, cells: Any, atom_types: Any, spin: Any = None, mixed_type: bool = False
    ) -> np.ndarray:
        """Descriptors of all atoms, (n_frames, n_atoms, dim); computed by the plain torch model."""
        import torch

        from deepmd.nn.frames import arguments, find_pairs
        from deepmd.nn.model import deserialize

        frames = arrange(coords, cells, atom_types, mixed_type)
        model, rows = deserialize(self.serialize()), []
        spins = spread_spins(spin, *frames.types.shape)
        for k, (inputs, real) in enumerate(frames):
            pairs = find_pairs(inputs["positions"], inputs["cell"], self.get_rcut())
            checked = self.core.checked(spins[k][real], inputs["types"])
            given = arguments(pairs, inputs["types"], None, None, checked)
            with torch.no_grad():
                values = model.describe_atoms(*given[:5], given[-1]).double().numpy()
            row = np.zeros((len(real), values.shape[1]))
            row[real] = values
            rows.append(row)
        return np.stack(rows)


def spread_spins(spin: Any, n_frames: int, n_atoms: int) -> np.ndarray:
    """Spins as [n_frames, n_atoms, 3] from 3 numbers an atom, for one frame or for each."""
    if spin is None:
        raise InputError("the model needs the spins of the atoms and got none; give spin, 3 numbers an atom")
    spins = np.asarray(spin, dtype=np.float64)
    if spins.size not in (3 * n_atoms, 3 * n_atoms * n_frames):
        raise InputError(f"spin has {spins.size} numbers, expected {n_frames} frames x {n_atoms} atoms x 3")
    return np.broadcast_to(spins.reshape(-1, n_atoms, 3), (n_frames, n_atoms, 3))
