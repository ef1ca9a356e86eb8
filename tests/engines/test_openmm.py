"""OpenMM: the model's energy and forces in its units, on the whole system or a part of it; energy is conserved."""

from __future__ import annotations

import numpy as np
import pytest
from reference.tiny_models import Options, make_frames, make_tree

openmm = pytest.importorskip("openmm", reason="OpenMM is not installed (pip install openmm)")
OPTIONS = Options()


@pytest.fixture(scope="module")
def path(compiled, tmp_path_factory) -> str:
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    path = tmp_path_factory.mktemp("openmm") / "graph.pth"
    freeze_model(deserialize(make_tree(OPTIONS)), path)
    return str(path)


def context_of(system, frame):
    context = openmm.Context(system, openmm.VerletIntegrator(0.0002), openmm.Platform.getPlatformByName("Reference"))
    if frame.cell is not None:
        context.setPeriodicBoxVectors(*(frame.cell / 10))
    context.setPositions(frame.positions / 10)
    return context


def asked(context):
    """Energy in eV and forces in eV/A, by ASE's constants."""
    from ase.units import kJ, mol, nm
    from openmm import unit

    state = context.getState(getEnergy=True, getForces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * kJ / mol, np.array(
        forces
    ) * kJ / mol / nm


def topology_of(frame):
    from openmm import app

    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for t in frame.types:
        name = OPTIONS.type_map[t]
        topology.addAtom(name, app.Element.getBySymbol(name), residue)
    if frame.cell is not None:
        topology.setPeriodicBoxVectors(frame.cell / 10 * openmm.unit.nanometer)
    return topology


def boxed():
    """A frame in a box of the form that OpenMM takes."""
    frame = make_frames(2)["bulk"]
    assert np.allclose(frame.cell, np.diag(np.diag(frame.cell)))
    return frame


@pytest.mark.parametrize("name", ["bulk", "molecule"])
def test_energy_and_forces_are_those_of_the_model(name, path) -> None:
    from deepmd.core import Model
    from deepmd.openmm import create_system

    frame = boxed() if name == "bulk" else make_frames(2)[name]
    expected = Model(path).evaluate(**frame.as_input())
    energy, forces = asked(context_of(create_system(path, topology_of(frame)), frame))
    assert abs(energy - expected["energy"]) < 1e-7 * max(1.0, abs(expected["energy"]))
    assert np.abs(forces - expected["forces"]).max() < 1e-6


def test_a_part_of_a_system_and_a_serialised_one(path) -> None:
    from deepmd.core import Model
    from deepmd.openmm import deep_potential_force

    frame, system = boxed(), openmm.System()
    for _ in range(len(frame.types) + 2):
        system.addParticle(10.0)
    chosen = np.arange(len(frame.types)) + 2
    elements = [OPTIONS.type_map[t] for t in frame.types]
    system.addForce(deep_potential_force(path, elements, True, particles=chosen))
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    expected = Model(path).evaluate(**frame.as_input())["forces"]
    frame.positions = np.vstack([np.zeros((2, 3)), frame.positions])
    _, forces = asked(context_of(system, frame))
    assert not forces[:2].any()
    assert np.abs(forces[2:] - expected).max() < 1e-6


def test_energy_is_conserved(path) -> None:
    from deepmd.openmm import create_system

    frame = boxed()
    context = context_of(create_system(path, topology_of(frame), remove_center_of_mass=False), frame)
    context.setVelocitiesToTemperature(300.0, 1)
    totals = []
    for _ in range(10):
        state = context.getState(getEnergy=True)
        totals.append(
            (state.getKineticEnergy() + state.getPotentialEnergy()).value_in_unit(openmm.unit.kilojoule_per_mole)
        )
        context.getIntegrator().step(5)
    kinetic = state.getKineticEnergy().value_in_unit(openmm.unit.kilojoule_per_mole)
    assert np.ptp(totals) < 0.01 * kinetic


def test_unknown_elements_are_named(path) -> None:
    from deepmd.errors import InputError
    from deepmd.openmm import deep_potential_force

    with pytest.raises(InputError, match="Xe.*does not know"):
        deep_potential_force(path, ["Xe"], False)
    with pytest.raises(InputError, match="1 particles and 2 elements"):
        deep_potential_force(path, OPTIONS.type_map[:2], False, particles=[0])
