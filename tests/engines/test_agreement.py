"""Every door to a model gives the judge's numbers on the same frames: one table of models, doors and frames.

The table of worst differences is printed at the end; DEEPMD_AGREEMENT_TABLE=FILE keeps it as JSON.
"""

from __future__ import annotations

import os
from pathlib import Path

import doors
import numpy as np
import pytest
from checks import tolerance
from doors import DOORS, Case
from lammps_run import six
from reference.dp_numpy import Judge
from reference.tiny_descriptors import PAIRS, make_model
from reference.tiny_models import Options, make_frames, make_tree

CASES = {
    "plain": Options(),
    "one-sided": Options(
        one_side=True, embedding_dt=True, activation="gelu", pair_exclude=[[0, 0]], fitting_bias=True,
        atom_ener=[0.0, None], sel=[6, 5], seed=3,
    ),
    "parameters": Options(n_fparam=2, n_aparam=1, axis_neuron=4, descriptor_exclude=[[1, 1]], seed=5),
    "hybrid of pairs, mixed types": Options(),  # a name of reference.tiny_descriptors, with this cutoff and these types
}  # fmt: skip
# Quantity -> name of its tolerance. Energies and virials of a whole frame are compared relative to their size.
TOTALS = ("energy", "virial", "virial_six")


@pytest.fixture(scope="module", params=list(CASES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def case(name, compiled, tmp_path_factory) -> Case:
    """The frozen model with its frames; parameters are equal for all atoms, as engines give them."""
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    options, tree = CASES[name], {"model": make_model(name).serialize()} if name in PAIRS else make_tree(CASES[name])
    path = tmp_path_factory.mktemp("agreement") / "graph.pth"
    freeze_model(deserialize(tree), path)
    frames, rng = make_frames(len(options.type_map)), np.random.default_rng(1)
    for frame in frames.values():
        if options.n_fparam:
            frame.fparam = rng.normal(0.5, 0.3, options.n_fparam)
        if options.n_aparam:
            frame.aparam = np.tile(rng.normal(0.5, 0.3, options.n_aparam), (len(frame.types), 1))
    return Case(options, tree, path, frames)


@pytest.fixture(scope="module")
def judged(case):
    if case.tree["model"]["descriptor"]["type"] == "se_e2_a":
        judge = Judge(case.tree)
        results = {frame_name: judge.evaluate(**frame.as_input()) for frame_name, frame in case.frames.items()}
    else:  # TorchScript, which the padded definitions judge in tests of their own
        results = doors.core("script")(case, case.path.parent)
    return {key: {**result, "virial_six": six(result["virial"])} for key, result in results.items()}


@pytest.fixture(scope="module")
def table(request):
    """{(model, door): {quantity: worst difference}}; printed when the module is through."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    yield worst
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + draw(worst))
    if os.environ.get("DEEPMD_AGREEMENT_TABLE"):
        rows = {f"{model} / {door}": row for (model, door), row in worst.items()}
        doors.write_summary(rows, Path(os.environ["DEEPMD_AGREEMENT_TABLE"]))


def draw(worst: dict[tuple[str, str], dict[str, float]]) -> str:
    """Rows are doors, columns quantities: the worst difference over all models and frames."""
    quantities = ("energy", "forces", "virial", "atom_energy", "atom_virial")
    lines = [f"{'worst difference from the judge':<32}" + "".join(f"{quantity:>13}" for quantity in quantities)]
    for door in DOORS:
        rows = [row for (_, known), row in worst.items() if known == door]
        if rows:
            values = [max((row[q] for row in rows if q in row), default=None) for q in quantities]
            lines.append(f"{door:<32}" + "".join(f"{'-' if v is None else format(v, '.1e'):>13}" for v in values))
    return "\n".join(lines)


def differences(result: dict, expected: dict, relative: bool = False) -> dict[str, float]:
    """Largest difference of each quantity; totals (all if `relative`) relative to their size where above one."""
    found = {}
    for quantity, value in result.items():
        reference = np.ravel(expected[quantity])
        difference = np.ravel(value) - reference
        assert difference.shape == reference.shape, f"{quantity} has {np.size(value)} numbers"
        scale = max(1.0, float(np.abs(reference).max())) if quantity in TOTALS or relative else 1.0
        key = "virial" if quantity == "virial_six" else quantity
        found[key] = float(np.abs(difference).max()) / scale
    return found


@pytest.mark.parametrize("door", list(DOORS))
def test_every_door_gives_the_judge_s_numbers(door, name, case, judged, table, tmp_path, request):
    if door in doors.NEEDS_LAMMPS:
        request.getfixturevalue("plugin")
    if door == "ASE":
        pytest.importorskip("ase")
    if "cuda" in door and name in PAIRS:
        with pytest.raises(Exception, match="the only one with kernels for a GPU"):
            DOORS[door](case, tmp_path)
        return
    results = DOORS[door](case, tmp_path)
    assert results, "the door ran no frame"
    problems = []
    row = table.setdefault((name, door), {})
    for frame_name, result in results.items():
        for quantity, difference in differences(result, judged[frame_name], door in doors.TOLERANCE_OF).items():
            row[quantity] = max(row.get(quantity, 0.0), difference)
            if not difference <= tolerance(doors.TOLERANCE_OF.get(door, "doors")):
                problems.append(f"{frame_name}: {quantity} differs by {difference:.2e}")
    assert problems == []
