"""A Deep Potential in OpenMM (8.4 or newer, `pip install openmm`), without a plugin of OpenMM's.

`create_system` makes a system of the model alone; `deep_potential_force` goes beside other forces.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import openmm
from openmm import app, unit

from deepmd.errors import InputError
from deepmd.infer.deep_pot import DeepPot

EV_IN_KJ_PER_MOL = 1.602176634e-19 * 6.02214076e23 / 1000
"""Exact: both numbers define units of the SI."""
NM_IN_ANGSTROM = 10.0
SKIN = 1.0  # Angstrom; a list built for rcut + skin serves until an atom has moved by half of it


def create_system(model: str | os.PathLike, topology: app.Topology, remove_center_of_mass: bool = True, **options: Any):
    """An `openmm.System` of all atoms of the topology, whose only interaction is the model's.

    Masses, elements and box vectors, if any, are those of the topology. options: as of `deep_potential_force`.
    """
    system, elements = openmm.System(), []
    for atom in topology.atoms():
        if atom.element is None:
            raise InputError(
                f"atom {atom.index} ('{atom.name}') has no element, expected one of the model's; set it in the topology"
            )
        elements.append(atom.element.symbol)
        system.addParticle(atom.element.mass)
    box = topology.getPeriodicBoxVectors()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(deep_potential_force(model, elements, periodic=box is not None, **options))
    if remove_center_of_mass:
        system.addForce(openmm.CMMotionRemover())
    return system


def deep_potential_force(
    model: str | os.PathLike,
    elements: Sequence[str],
    periodic: bool,
    particles: Sequence[int] = (),
    fparam: Sequence[float] | None = None,
    aparam: Any = None,
    **how: Any,
) -> openmm.PythonForce:
    """The model as a force on particles of the given elements.

    Parameters
    ----------
    model
        File of a frozen model. The force can be serialised, and then carries this name.
    elements
        [n_particles] names from the model's type map.
    periodic
        Whether the box repeats in all directions; else there is none.
    particles
        Indices [n_particles] in the system, if the model describes a part of it; nothing: all of it. The model does not
        know the others; other forces of the system say how these particles interact with them.
    fparam, aparam
        Parameters of the frame [dim_fparam] and of the atoms [n_particles, dim_aparam] of models that take some.
    how
        ``path`` and ``precision`` as of `DeepPot`.

    Raises InputError for elements that the model does not know.
    """
    if len(particles) not in (0, len(elements)):
        raise InputError(
            f"there are {len(particles)} particles and {len(elements)} elements, expected one element for each"
        )
    computation = Computation(model, list(elements), periodic, fparam, aparam, how)
    computation.open()
    force = openmm.PythonForce(computation, {}, [int(k) for k in particles])
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("DeepPotential")
    return force


class Computation:
    """What OpenMM calls in each step: a state in, energy (kJ/mol) and forces [n, 3] (kJ/mol/nm) out."""

    def __init__(self, model: Any, elements: list[str], periodic: bool, fparam: Any, aparam: Any, how: dict[str, Any]):
        self.file = os.path.abspath(os.fspath(model))  # a serialised force may be read in another folder
        self.elements, self.periodic, self.how = elements, periodic, how
        self.parameters = {name: np.asarray(value, float) for name, value in (("fparam", fparam), ("aparam", aparam))
                           if value is not None}  # fmt: skip
        self._model: DeepPot | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None, "_types": None, "_neighbors": None}

    def open(self) -> None:
        """Opens the model; a force that was read from a file does so when it is first called."""
        from deepmd.core import Neighbors

        model = DeepPot(self.file, **self.how)
        known = model.get_type_map()
        strangers = sorted(set(self.elements) - set(known))
        if strangers:
            raise InputError(
                f"the particles hold {', '.join(strangers)}, which the model does not know; it knows {', '.join(known)}"
            )
        self._types = np.array([known.index(element) for element in self.elements], dtype=np.int64)
        self._neighbors = Neighbors(model.get_rcut(), SKIN)
        self._model = model

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        if self._model is None:
            self.open()
        cell = None
        if self.periodic:
            cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        result = self._model.evaluate_frame(positions, self._types, cell, neighbors=self._neighbors, **self.parameters)
        return result["energy"] * EV_IN_KJ_PER_MOL, result["forces"] * (EV_IN_KJ_PER_MOL * NM_IN_ANGSTROM)
