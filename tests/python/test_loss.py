"""The loss against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepmd.data import System
from deepmd.data.graph import Batch
from deepmd.errors import DataError
from deepmd.nn.plain import Prediction
from deepmd.train.labels import tell_missing
from deepmd.train.losses import EnergyLoss

# Two frames of two atoms. Energy errors 2 and -4 eV, so squares 4 and 16.
LABELS = {
    "energy": np.array([10.0, 20.0]),
    "force": np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]),
    "virial": np.zeros((2, 3, 3)),
    "atom_ener": np.array([1.0, 2.0, 3.0, 4.0]),
    "atom_pref": np.array([1.0, 0.0, 2.0, 1.0]),
    "atom_ener_coeff": np.array([1.0, 1.0, 1.0, 0.0]),
}


def batch(**absent):
    return Batch(
        types=np.zeros(4, dtype=np.int32), frame=np.array([0, 0, 1, 1], dtype=np.int32), n_frames=2,
        first=np.zeros(5, dtype=np.int64), neighbor=np.zeros(0, dtype=np.int32), vectors=np.zeros((0, 3)),
        atoms_per_frame=np.array([2.0, 2.0]), labels=LABELS,
        found={k: not absent.get(k, False) for k in LABELS}, origin="two frames",
    )  # fmt: skip


def prediction():
    errors = torch.tensor([[0.3, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.5, 0]], dtype=torch.float64)
    forces = torch.tensor(LABELS["force"]) + errors
    return Prediction(
        energy=torch.tensor([12.0, 16.0], dtype=torch.float64),
        atom_energy=torch.tensor([6.0, 6.0, 8.0, 8.0], dtype=torch.float64),
        forces=forces,
        virial=torch.full((2, 3, 3), 0.6, dtype=torch.float64),
    )


CASES = {
    # section, expected loss, expected reports
    "energy": ({"start_pref_e": 3, "limit_pref_e": 3}, 3 * (4 / 2 + 16 / 2) / 2, {"rmse_e": math.sqrt(10) / 2}),
    "energy, intensive": (
        {"start_pref_e": 1, "limit_pref_e": 1, "intensive_ener_virial": True}, (4 / 4 + 16 / 4) / 2, {}),
    "force": ({"start_pref_f": 1, "limit_pref_f": 1}, (0.09 + 0.25) / 12, {"rmse_f": math.sqrt(0.34 / 12)}),
    "virial": ({"start_pref_v": 1, "limit_pref_v": 1}, 0.36 / 2, {"rmse_v": 0.3}),
    "atomic energy": ({"start_pref_ae": 1, "limit_pref_ae": 1}, (25 + 16 + 25 + 16) / 4, {"rmse_ae": math.sqrt(20.5)}),
    "prefactored force": (
        {"start_pref_pf": 1, "limit_pref_pf": 1}, (0.09 + 0.25) / 12, {"rmse_pf": math.sqrt(0.34 / 12)}),
    "relative force": (
        {"start_pref_f": 1, "limit_pref_f": 1, "relative_f": 1.0}, ((0.3 / 2) ** 2 + (0.5 / 6) ** 2) / 12, {}),
    "energy, absolute": (
        {"start_pref_e": 1, "limit_pref_e": 1, "loss_func": "mae"}, (2 / 2 + 4 / 2) / 2, {"mae_e": 1.5}),
    "force, absolute": ({"start_pref_f": 1, "limit_pref_f": 1, "loss_func": "mae"}, 0.8 / 12, {"mae_f": 0.8 / 12}),
    "force, huber": (
        {"start_pref_f": 1, "limit_pref_f": 1, "use_huber": True, "huber_delta": 0.4},
        (0.5 * 0.09 + 0.4 * (0.5 - 0.2)) / 12, {}),
    "energy, huber": (
        {"start_pref_e": 1, "limit_pref_e": 1, "use_huber": True, "huber_delta": 1.0}, (0.5 + 1.5) / 2, {}),
    "weighted atoms": (
        {"start_pref_e": 1, "limit_pref_e": 1, "enable_atom_ener_coeff": True}, (4 / 2 + 144 / 2) / 2, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_terms(name):
    section, expected, reports = CASES[name]
    loss, report = EnergyLoss(section, 1e-3)(prediction(), batch(), 1e-3)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    for key, value in reports.items():
        assert report[key] == pytest.approx(value, rel=1e-12)
    assert report["rmse"] == pytest.approx(math.sqrt(expected), rel=1e-12)


def test_prefactors_follow_the_learning_rate():
    section = {"start_pref_f": 1000, "limit_pref_f": 1}
    losses = [float(EnergyLoss(section, 1e-3)(prediction(), batch(), lr)[0]) for lr in (1e-3, 5e-4, 0.0)]
    assert losses == pytest.approx([1000 * 0.34 / 12, 500.5 * 0.34 / 12, 0.34 / 12])


def test_a_prefactor_that_only_starts_is_used():
    loss, _ = EnergyLoss({"start_pref_e": 1, "limit_pref_e": 0}, 1e-3)(prediction(), batch(), 1e-3)
    assert float(loss) == pytest.approx(5.0)


@pytest.mark.parametrize("wanted", [True, False])
def test_missing_weights_of_forces_count_as_one_where_the_input_says_so(wanted):
    section = {"start_pref_pf": 1, "limit_pref_pf": 1, "use_default_pf": wanted}
    loss, report = EnergyLoss(section, 1e-3)(prediction(), batch(atom_pref=True), 1e-3)
    assert float(loss) == pytest.approx((0.09 + 0.25) / 12 if wanted else 0.0)
    assert math.isnan(report["rmse_pf"]) != wanted


def test_a_missing_label_leaves_its_term_out_and_is_reported_as_nan():
    section = {"start_pref_e": 1, "limit_pref_e": 1, "start_pref_v": 1, "limit_pref_v": 1}
    loss, report = EnergyLoss(section, 1e-3)(prediction(), batch(virial=True), 1e-3)
    assert float(loss) == pytest.approx(5.0) and math.isnan(report["rmse_v"])


def test_which_system_lacks_which_label_is_told(tiny_system, caplog):
    whole, partly, bare = (tiny_system(name, n_frames=2, set_size=1) for name in ("whole", "partly", "bare"))
    (partly / "set.001" / "force.npy").unlink()
    for label in ("energy", "force"):
        for path in bare.glob(f"set.*/{label}.npy"):
            path.unlink()
    systems = [System.open(str(one), ["O", "H"]) for one in (whole, partly, bare)]
    loss = EnergyLoss({"start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 1, "limit_pref_f": 1}, 1e-3)
    tell_missing(systems, loss, "training/training_data", True)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and f"no energy in 1 of 3 systems ({bare})" in lines[0]
    assert f"no force in 2 of 3 systems ({partly}, 1 of 2 sets, {bare})" in lines[1]
    with pytest.raises(DataError, match=r"no system holds a label .*\(energy, force\)"):
        tell_missing(systems[2:], loss, "training/training_data", True)
    tell_missing(systems[2:], loss, "training/validation_data", False)
