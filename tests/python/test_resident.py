"""Training with resident data: equal to the engines of the CPU, and fit for a device that must not be waited for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from deepmd import config
from deepmd.data import load_systems
from deepmd.errors import InputError, TrainingError
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import PlainEngine
from deepmd.nn.resident import PairGradients, ResidentEngine, why_not
from deepmd.nn.resident_frames import FIRST_PAGES, PAGE, Arena, ResidentBatch, ResidentCache
from deepmd.train import assemble, checkpoint, device
from deepmd.train.processes import Processes
from deepmd.train.recorded import Recorder
from deepmd.train.whole_step import Steps, WholeStep
from training_runs import changed, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")
SHORT = {"sel": [16, 32], "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8], "seed": 1}
POOLED = {**SHORT, "sel": 48, "axis_neuron": 3, "attn_layer": 0, "tebd_dim": 4}
VARIANTS = {
    "two-sided": {},
    "one-sided": {"model__descriptor__type_one_side": True},
    "excluded": {"model__descriptor__exclude_types": [[0, 0]], "model__pair_exclude_types": [[1, 1]]},
    "float32": {"model__descriptor__precision": "float32", "model__fitting_net__precision": "float32"},
    "mae": {"loss__loss_func": "mae"},
    "se_e2_r": {"model__descriptor": {"type": "se_e2_r", **SHORT}},
    "hybrid": {"model__descriptor": {"type": "hybrid", "list": [
        {"type": "se_e2_a", **SHORT, "rcut": 3.0, "axis_neuron": 2}, {"type": "se_e2_r", **SHORT}]}},
    "concat": {"model__descriptor": {"type": "se_atten", **POOLED}},
    "strip": {"model__descriptor": {"type": "se_atten_v2", **POOLED, "exclude_types": [[0, 1]]}},
}  # fmt: skip


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
    engine, cache = resident(model, source)
    for written_out in {engine.written_out, False}:
        engine.written_out = written_out
        got, own = engine.differentiate(loss, cache.batch(0, frames), 1e-3, parameters)
        assert got == pytest.approx(value, rel=limit) and own == pytest.approx(report, rel=limit)
        for parameter, other in zip(parameters, expected, strict=True):
            assert (parameter.grad is None) == (other is None)
            if other is not None:
                largest = float(other.abs().max()) + 1e-12
                assert float((parameter.grad - other).abs().max()) <= limit * max(largest, 1.0)


def resident(model, source, shortest: float = 0.7, budget: int = 1 << 30):
    engine = ResidentEngine(model, Nodes(model, shortest))
    engine.settle()
    return engine, ResidentCache(source.cache, engine.parts, torch.device("cpu"), budget)


def test_forces_do_not_depend_on_the_order_of_frames_or_on_the_budget(jdata):
    model, loss, source = opened(jdata)
    engine, wide = resident(model, source)
    n = len(wide.batch(0, np.arange(4)).pages) // 4
    narrow = ResidentCache(source.cache, engine.parts, torch.device("cpu"), 2 * n * 8 * PAGE)  # two frames
    a = engine(wide.batch(0, np.array([0, 1])))
    for frames in ([2, 3], [1, 0]):
        b = engine(narrow.batch(0, np.array(frames)))
    half = a.forces.shape[0] // 2
    assert torch.equal(a.forces[:half], b.forces[half:]) and len(narrow._kept) == 2
    with pytest.raises(TrainingError, match="frame 2 does not fit in the memory for frames.*DEEPMD_GPU_MEMORY"):
        narrow.batch(0, np.array([0, 1, 2]))


def test_frames_on_the_device_are_asked_for_no_more(jdata, monkeypatch):
    model, loss, source = opened(jdata)
    _, cache = resident(model, source)
    cache.batch(0, np.arange(4))
    assert not source.cache._kept  # the host keeps no second copy
    monkeypatch.setattr(source.cache, "_build", lambda *key: pytest.fail("a list is made again"))
    assert cache.batch(0, np.array([3, 1])).n_frames == 2


def test_an_arena_grows_and_keeps_what_it_holds():
    arena = Arena(torch.device("cpu"), 8 * PAGE * 3 * FIRST_PAGES)
    first = arena.take(FIRST_PAGES)
    arena.pages[first[0]] = 7.0
    assert len(arena.take(FIRST_PAGES + 1)) == FIRST_PAGES + 1 and len(arena.pages) == 3 * FIRST_PAGES
    assert float(arena.pages[first[0]].sum()) == 7.0 * PAGE and arena.take(FIRST_PAGES) is None


def test_closer_pairs_widen_the_nodes_and_lay_all_frames_out_anew(jdata):
    model, loss, source = opened(jdata)
    engine, cache = resident(model, source, 1.5)  # the data have pairs at 0.95 Angstrom
    forces = engine(cache.batch(0, np.array([0, 1]))).forces
    expected = PlainEngine(model)(source.cache.batch(0, np.array([0]))).forces
    real = cache.batch(0, np.array([0])).loaded.tensors["mask"][0] > 0
    assert engine.parts[0].shortest < 1.0 and int(real.sum()) == len(expected)
    assert float((forces[: len(real)][real] - expected).detach().abs().max()) < 1e-6


def there(value: torch.Tensor) -> torch.Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


@pytest.mark.parametrize("variant", ["two-sided", "one-sided", "se_e2_r", "hybrid", "strip"])
def test_a_step_on_a_gpu_mixes_no_devices_and_waits_for_nothing(jdata, variant, monkeypatch):
    """With tensors that only know shape and device: what reads a number or mixes devices fails, as recording would."""
    model, loss, source = opened(changed(jdata, **VARIANTS[variant]))
    engine, cache = resident(model, source)
    batch = cache.batch(0, np.array([0, 1]))
    model.to("meta")
    for part in engine.parts:
        places = {t: there(part.at_nodes(t)) for t in range(2)}
        part.transform, part._places = there(part.transform), places
    cache.arena.pages = there(cache.arena.pages)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, bad = torch.optim.Adam(trained, fused=True), there(torch.zeros(()))
    whole = WholeStep(engine, loss, Steps(optimizer, trained, 1.0, Processes(), Recorder(torch.device("cpu")), bad))
    assert whole.flat.is_meta

    def adam(*lists, lr, found_inf, **options):  # torch has none for such tensors
        assert lr.is_meta and found_inf.is_meta and all(one.is_meta for tensors in lists for one in tensors)

    monkeypatch.setattr(torch, "_fused_adam_", adam)
    seen = whole.gradient(batch)
    whole._prepare(seen.pattern)
    whole.update(seen.pattern)
    assert sum(seen.pattern) == len(trained)


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
    assert "there is a GPU, but not for attention, and activation functions that are not smooth" in caplog.text
    assert "training on the CPU" in caplog.text


def test_a_gpu_that_disagrees_or_fails_is_not_used(tmp_path, jdata, monkeypatch, caplog):
    run(tmp_path / "cpu", jdata)
    monkeypatch.setenv("DEVICE", "emulated")
    right, fetch = PairGradients.forward, ResidentBatch.fetch
    wrong = staticmethod(lambda *given: 1.001 * right(*given))

    def second_recorded(self, pages):  # as if a recording went on reading the frame that it was made with
        return fetch(self, torch.from_numpy(self.pages))

    def lost(self, pages):  # a device that is lost: nothing can be fetched from it either
        monkeypatch.setattr(torch.nn.Module, "to", lambda *given: pytest.fail("asked a lost device"))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for k, (owner, name, value, words) in enumerate((
        (PairGradients, "forward", wrong, "the GPU is not used: the loss is .* in step 1 of its trial"),
        (ResidentBatch, "fetch", second_recorded, "the GPU is not used: the loss is .* in step 5 of its trial"),
        (ResidentBatch, "fetch", lost, "the GPU is not used: CUDA error: an illegal memory"),
    )):  # fmt: skip
        caplog.clear()
        with monkeypatch.context() as patch, caplog.at_level("INFO", logger="deepmd"):
            patch.setattr(owner, name, value)
            run(tmp_path / str(k), jdata)
        monkeypatch.undo()
        monkeypatch.setenv("DEVICE", "emulated")
        assert re.search(words, caplog.text) and "training on the CPU" in caplog.text
        a, b = (weights(tmp_path / one / "model.ckpt.pt") for one in ("cpu", str(k)))
        assert all(torch.equal(a[key], b[key]) for key in a)


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
    monkeypatch.setenv("DEVICE", "cpu")
    assert device.wanted() is None
    monkeypatch.setenv("DEVICE", "gpu")
    monkeypatch.setenv("DEEPMD_GPU", "off")
    assert device.wanted() is None
    monkeypatch.delenv("DEEPMD_GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        device.wanted()


def test_one_process_agrees_with_itself():
    group = Processes()
    assert group.agree(15) == 15 and group.gather(3) == [3] and group.share("x") == "x" and group.is_first
