"""Training with resident data: equal to the engines of the CPU, and fit for a device that must not be waited for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deepmd import config
from deepmd.data import load_systems
from deepmd.errors import InputError
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import PlainEngine
from deepmd.nn.resident import Frames, ResidentBatch, ResidentCache, ResidentEngine, chebyshev, why_not
from deepmd.train import assemble, checkpoint, device
from deepmd.train.processes import Processes
from training_runs import changed, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")
VARIANTS = {
    "two-sided": {},
    "one-sided": {"model__descriptor__type_one_side": True},
    "excluded": {"model__descriptor__exclude_types": [[0, 0]], "model__pair_exclude_types": [[1, 1]]},
    "float32": {"model__descriptor__precision": "float32", "model__fitting_net__precision": "float32"},
    "mae": {"loss__loss_func": "mae"},
}


@pytest.fixture
def jdata(tiny_system):
    return make_input(tiny_system(n_frames=4), numb_steps=6, save_freq=3, disp_freq=2)


def opened(jdata: dict):
    """Model with statistics, loss and source of an input."""
    jdata = config.normalise(config.upgrade(jdata)[0])
    systems = load_systems(jdata["training"]["training_data"]["systems"], jdata["model"]["type_map"], None)
    model, loss, training, _ = assemble.open_task(jdata, systems, None, (1, 2))
    assemble.start_statistics(model, training, jdata)
    return model, loss, training


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_are_those_of_every_neighbour(jdata, variant):
    compare(changed(jdata, **VARIANTS[variant]), 2e-4 if variant == "float32" else 1e-7)


def test_parameters_of_frames_and_atoms_go_along(jdata):
    rng, folder = np.random.default_rng(0), Path(jdata["training"]["training_data"]["systems"][0]) / "set.000"
    np.save(folder / "fparam.npy", rng.normal(size=(4, 2)))
    np.save(folder / "aparam.npy", rng.normal(size=(4, 12)))
    compare(changed(jdata, model__fitting_net__numb_fparam=2, model__fitting_net__numb_aparam=1), 1e-7)


def compare(jdata: dict, limit: float) -> None:
    """The resident engine with the plain path through every neighbour."""
    model, loss, source = opened(jdata)
    assert why_not(model, loss) == ""
    parameters = [p for p in model.parameters() if p.requires_grad]
    frames = np.array([2, 0, 3])
    value, report = PlainEngine(model).differentiate(loss, source.cache.batch(0, frames), 1e-3, parameters)
    expected = [p.grad for p in parameters]
    engine = ResidentEngine(model, Nodes(model, 0.7))
    cache = ResidentCache(source.cache, engine.part, torch.device("cpu"), 1 << 30)
    got, own = engine.differentiate(loss, cache.batch(0, frames), 1e-3, parameters)
    assert got == pytest.approx(value, rel=limit) and own == pytest.approx(report, rel=limit)
    for parameter, other in zip(parameters, expected, strict=True):
        largest = float(other.abs().max()) + 1e-12
        assert float((parameter.grad - other).abs().max()) <= limit * max(largest, 1.0)


def test_forces_do_not_depend_on_the_order_of_frames_or_on_the_budget(jdata):
    model, loss, source = opened(jdata)
    engine = ResidentEngine(model, Nodes(model, 0.7))
    wide, narrow = (ResidentCache(source.cache, engine.part, torch.device("cpu"), n) for n in (1 << 30, 1))
    a = engine(wide.batch(0, np.array([0, 1])))
    b = engine(narrow.batch(0, np.array([1, 0])))
    half = a.forces.shape[0] // 2
    assert torch.equal(a.forces[:half], b.forces[half:]) and len(narrow._kept) == 1


def test_closer_pairs_widen_the_nodes_and_lay_all_frames_out_anew(jdata):
    model, loss, source = opened(jdata)
    engine = ResidentEngine(model, Nodes(model, 1.5))  # the data have pairs at 0.95 Angstrom
    cache = ResidentCache(source.cache, engine.part, torch.device("cpu"), 1 << 30)
    forces = engine(cache.batch(0, np.array([0, 1]))).forces
    expected = PlainEngine(model)(source.cache.batch(0, np.array([0]))).forces
    assert engine.part.shortest < 1.0
    assert float((forces[: len(expected)] - expected).detach().abs().max()) < 1e-6


def test_chebyshev_polynomials_and_their_slopes():
    z = torch.linspace(-1.0, 1.0, 41, dtype=torch.float64)[1:-1]
    t, d = chebyshev(z, 64)
    q, angle = torch.arange(64, dtype=torch.float64)[:, None], torch.arccos(z)
    assert float((t - torch.cos(q * angle)).abs().max()) < 1e-12
    assert float((d - q * torch.sin(q * angle) / torch.sin(angle)).abs().max()) < 1e-9


def test_a_step_on_a_gpu_mixes_no_devices_and_waits_for_nothing(jdata):
    """With tensors that only know shape and device: what reads a number or mixes devices fails, as recording would."""
    model, loss, source = opened(jdata)
    part = Nodes(model, 0.7).parts[0]
    real = ResidentCache(source.cache, part, torch.device("cpu"), 1 << 30).batch(0, np.array([0, 1]))

    def there(value: torch.Tensor) -> torch.Tensor:
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    engine = ResidentEngine(model.to("meta"), None, part)
    part.transform = there(part.transform)
    part._places = {t: there(torch.zeros(part.n_nodes, 1, dtype=torch.float64)) for t in range(2)}
    frames = Frames(**{name: there(value) for name, value in vars(real.frames).items()})
    labels = {key: there(value) for key, value in real.labels.items()}
    batch = ResidentBatch(frames, labels, real.found, real.blocks, real.slots, real.origin)
    total, report = engine.loss_of(loss, batch, there(torch.zeros((), dtype=torch.float64)))
    assert total.is_meta and all(value.is_meta for value in report.values())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.is_meta for p in trained)


def test_a_whole_training_is_that_of_the_cpu(tmp_path, jdata, monkeypatch, caplog):
    run(tmp_path / "cpu", jdata)
    monkeypatch.setenv("DEVICE", "emulated")
    with caplog.at_level("INFO", logger="deepmd"):
        run(tmp_path / "resident", changed(jdata, training__change_bias_after_training=False))
    assert "training on a GPU that is emulated on the CPU" in caplog.text
    a, b = (weights(tmp_path / name / "model.ckpt.pt") for name in ("cpu", "resident"))
    assert max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel()) < 1e-7
    one, two = (np.loadtxt(tmp_path / name / "lcurve.out") for name in ("cpu", "resident"))
    np.testing.assert_allclose(two, one, rtol=0.011)


def test_a_resident_training_goes_on_bit_for_bit_and_moves_its_bias_at_the_end(tmp_path, jdata, monkeypatch):
    monkeypatch.setenv("DEVICE", "emulated")
    jdata = changed(jdata, training__change_bias_after_training=True)
    run(tmp_path / "whole", jdata)
    run(tmp_path / "rest", jdata, restart=str(tmp_path / "whole" / "model.ckpt-3.pt"))
    a, b = (weights(tmp_path / name / "model.ckpt.pt") for name in ("whole", "rest"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert checkpoint.load(tmp_path / "rest" / "model.ckpt.pt")["step"] == 6


def test_what_the_gpu_does_not_train_goes_to_the_cpu_in_words(tmp_path, jdata, monkeypatch, caplog):
    monkeypatch.setenv("DEVICE", "emulated")
    with caplog.at_level("INFO", logger="deepmd"):
        run(tmp_path / "a", changed(jdata, model__descriptor__activation_function="relu", training__numb_steps=1))
    assert "there is a GPU, but no kernels for descriptors other than se_e2_a" in caplog.text
    assert "training on the CPU" in caplog.text


def test_a_gpu_that_disagrees_is_not_used(tmp_path, jdata, monkeypatch, caplog):
    monkeypatch.setenv("DEVICE", "emulated")
    right = ResidentEngine.gradients
    monkeypatch.setattr(ResidentEngine, "gradients", lambda self, batch, h: 1.001 * right(self, batch, h))
    with caplog.at_level("INFO", logger="deepmd"):
        run(tmp_path / "a", jdata)
    assert "the GPU is not used: the loss of a first batch is" in caplog.text and "training on the CPU" in caplog.text


def test_which_device_a_process_takes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("DEEPMD_GPU", raising=False)
    monkeypatch.delenv("DEVICE", raising=False)
    assert device.wanted() is None  # not before it has been proven on one
    monkeypatch.setenv("DEVICE", "gpu")
    for local, expected in (("0", 0), ("1", 1), ("3", 1)):
        monkeypatch.setenv("LOCAL_RANK", local)
        assert device.wanted() == torch.device("cuda", expected)
    assert device.gpu_count() == 2
    monkeypatch.setenv("DEVICE", "cpu")
    assert device.wanted() is None and device.gpu_count() == 0
    monkeypatch.setenv("DEVICE", "gpu")
    monkeypatch.setenv("DEEPMD_GPU", "off")
    assert device.wanted() is None
    monkeypatch.delenv("DEEPMD_GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        device.wanted()


def test_data_of_changing_types_stay_on_the_cpu():
    def source(*mixed):
        return SimpleNamespace(cache=SimpleNamespace(systems=[SimpleNamespace(mixed=one) for one in mixed]))

    assert not device.has_changing_types((source(False, False), None))
    assert device.has_changing_types((source(False), source(False, True)))


def test_one_process_agrees_with_itself():
    group = Processes()
    assert group.agree(15) == 15 and group.gather(3) == [3] and group.share("x") == "x" and group.is_first
