"""The step that a GPU records, run as it is: the same numbers as the plain trainer's, whatever batch comes next."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deepmd.errors import InputError, TrainingError
from deepmd.nn.resident import ResidentEngine
from deepmd.nn.resident_frames import PAGE, room
from deepmd.train import checkpoint, device
from deepmd.train.processes import Several
from deepmd.train.recorded import WARM_UP, Recorder, Recordings
from deepmd.train.whole_step import KEPT, WholeStep
from test_multi_task import multi_input
from training_runs import changed, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def jdata(tiny_system):
    return make_input(tiny_system(n_frames=5), numb_steps=6, save_freq=3, disp_freq=2)


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setenv("DEVICE", "emulated")


def largest_difference(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel())


def both(folder: Path, jdata: dict, monkeypatch, **options) -> list[Path]:
    """The same training on the CPU and on its stand-in for a GPU."""
    folders = [folder / "cpu", folder / "resident"]
    for one, word in zip(folders, ("cpu", "emulated"), strict=True):
        monkeypatch.setenv("DEVICE", word)
        run(one, jdata, **options)
    return folders


def test_many_steps_are_those_of_the_plain_trainer(tmp_path, jdata, monkeypatch):
    """Batches of two frames and of one, both recorded; warm-up, decay, prefactors, clipping, decoupled weight decay."""
    clipped = {"gradient_max_norm": 2.0, "disp_avg": True, "numb_steps": 40, "disp_freq": 20, "save_freq": 40}
    jdata = changed(jdata, learning_rate__warmup_steps=4, **{f"training__{k}": v for k, v in clipped.items()})
    jdata["optimizer"] = {"type": "AdamW", "weight_decay": 0.01}
    recorded = []
    record = Recorder.record
    monkeypatch.setattr(Recorder, "record", lambda self, work: (recorded.append(work), record(self, work))[1])
    folders = both(tmp_path, jdata, monkeypatch)
    assert len(recorded) == 1 + 2  # of the trial, and of both kinds of batches
    a, b = (weights(folder / "model.ckpt.pt") for folder in folders)
    assert largest_difference(a, b) < 1e-7
    one, two = (np.loadtxt(folder / "lcurve.out") for folder in folders)
    np.testing.assert_allclose(two, one, rtol=0.011)  # averages over steps too; the rows have three figures
    states = [checkpoint.load(folder / "model.ckpt.pt")["optimizer"]["state"] for folder in folders]
    assert [s["step"] for s in states[0].values()] == [s["step"] for s in states[1].values()]


def test_frames_of_changing_types(tmp_path, jdata, monkeypatch):
    """Some frames lack atoms, one lacks a type; parameters of a type that no frame of a batch has are left alone."""
    folder = Path(jdata["training"]["training_data"]["systems"][0])
    types = np.tile(np.loadtxt(folder / "type.raw", dtype=int), (5, 1))
    types[1, :2], types[2, 5], types[3, types[3] == 0] = -1, 1 - types[2, 5], 1
    np.save(folder / "set.000" / "real_atom_types.npy", types)
    (folder / "type.raw").write_text("0\n" * types.shape[1])
    jdata = changed(jdata, training__training_data__batch_size=1, training__numb_steps=12)
    jdata["loss"] |= {"start_pref_ae": 1, "limit_pref_ae": 1}
    np.save(folder / "set.000" / "atom_ener.npy", np.random.default_rng(0).normal(size=types.shape))
    for size in (1, 2):
        jdata = changed(jdata, training__training_data__batch_size=size)
        folders = both(tmp_path / str(size), jdata, monkeypatch)
        assert largest_difference(*(weights(one / "model.ckpt.pt") for one in folders)) < 1e-7
        one, two = (np.loadtxt(one / "lcurve.out") for one in folders)
        np.testing.assert_allclose(two, one, rtol=0.011)


def test_several_tasks_on_a_device(tmp_path, tiny_system, monkeypatch, caplog):
    systems = [tiny_system("a", n_frames=3), tiny_system("b", n_frames=2, n_molecules=3, seed=4)]
    jdata = multi_input(systems, numb_steps=12, save_freq=6, change_bias_after_training=True)
    with caplog.at_level("INFO", logger="deepmd"):
        folders = both(tmp_path, jdata, monkeypatch)
    assert "training on a GPU that is emulated on the CPU" in caplog.text
    one, two = (checkpoint.load(folder / "model.ckpt.pt")["tasks"] for folder in folders)
    assert max(largest_difference(one[task]["model"], two[task]["model"]) for task in "ab") < 1e-7
    run(tmp_path / "rest", jdata, restart=str(folders[1] / "model.ckpt-6.pt"))
    rest = checkpoint.load(tmp_path / "rest" / "model.ckpt.pt")["tasks"]
    assert all(largest_difference(two[task]["model"], rest[task]["model"]) == 0.0 for task in "ab")


def test_a_task_that_no_gpu_trains_keeps_all_on_the_cpu(tmp_path, tiny_system, emulated, caplog):
    jdata = multi_input([tiny_system("a", n_frames=2), tiny_system("b", n_frames=2)], numb_steps=1)
    jdata["loss_dict"]["b"]["enable_atom_ener_coeff"] = True
    with caplog.at_level("INFO", logger="deepmd"):
        run(tmp_path / "a", jdata)
    assert "there is a GPU, but not for b: terms of the loss other than e, f, v, ae and pf" in caplog.text
    assert "training on the CPU" in caplog.text


@pytest.mark.parametrize("plain", ["", "1"])
def test_runs_go_on_from_a_device_to_the_cpu_and_back(tmp_path, jdata, monkeypatch, plain):
    monkeypatch.setenv("DEEPMD_PLAIN_TRAINING", plain)
    run(tmp_path / "cpu", jdata)
    monkeypatch.setenv("DEEPMD_PLAIN_TRAINING", "")
    monkeypatch.setenv("DEVICE", "emulated")
    run(tmp_path / "there", jdata, restart=str(tmp_path / "cpu" / "model.ckpt-3.pt"))
    monkeypatch.setenv("DEEPMD_PLAIN_TRAINING", plain)
    monkeypatch.setenv("DEVICE", "cpu")
    run(tmp_path / "back", changed(jdata, training__numb_steps=8), restart=str(tmp_path / "there" / "model.ckpt-6.pt"))
    run(tmp_path / "on", changed(jdata, training__numb_steps=8), restart=str(tmp_path / "cpu" / "model.ckpt-6.pt"))
    a, b = (weights(tmp_path / name / "model.ckpt.pt") for name in ("on", "back"))
    assert largest_difference(a, b) < 1e-7


def test_a_run_that_had_to_leave_the_nodes_stays_on_the_cpu(tmp_path, jdata, emulated, caplog):
    run(tmp_path / "a", jdata)
    path = tmp_path / "a" / "model.ckpt-3.pt"
    payload = checkpoint.load(path)
    for state in [payload["engine"], *payload["engines"]]:
        state["parts"][0]["active"] = False
    checkpoint.write(path, payload)
    with caplog.at_level("INFO", logger="deepmd"):
        run(tmp_path / "b", jdata, restart=str(path))
    assert "not for networks that are not evaluated on nodes" in caplog.text and "training on the CPU" in caplog.text


def test_a_loss_that_is_not_finite_changes_nothing_and_is_told_later(tmp_path, jdata, emulated, monkeypatch):
    jdata = changed(jdata, training__numb_steps=KEPT + 10, training__disp_freq=1000, training__save_freq=1000)
    state: dict = {}
    step = WholeStep.step

    def spoilt(self, number, batch, lr, factor=1.0):
        if number == 5 and "weights" not in state:
            state["weights"] = [p.detach().clone() for p in self.steps.parameters]
            begin = batch.cache.layouts[batch.shape].fields["label/energy"].begin
            batch.cache.arena.pages[batch.pages[begin // PAGE], begin % PAGE] = np.nan
            state.update(whole=self, origin=batch.origin)
        step(self, number, batch, lr, factor)

    monkeypatch.setattr(WholeStep, "step", spoilt)
    with pytest.raises(TrainingError, match="training stopped at step 5: the loss is nan for (.*); no checkpoint") as e:
        run(tmp_path / "a", jdata)
    assert state["origin"] in str(e.value)
    assert all(torch.equal(a, p) for a, p in zip(state["weights"], state["whole"].steps.parameters, strict=True))


def test_recordings_are_few_and_the_least_recently_used_goes():
    log = []
    recorder = SimpleNamespace(wait=lambda: None, record=lambda work: (log.append("record"), work)[1])
    few = Recordings(recorder, most=2)
    for key in "aaabbb":
        few.run(key, lambda key=key: log.append(key))
    expected = [*"a" * WARM_UP, "record", "a", *"b" * WARM_UP, "record", "b"]
    assert log == expected and len(few) == 2
    log.clear()
    for key in "accc":
        few.run(key, lambda key=key: log.append(key))
    assert len(few) == 2 and log == ["a", *"c" * WARM_UP, "record", "c"]
    log.clear()
    few.run("a", lambda: log.append("made anew"))
    few.run("b", lambda: log.append("ordinary"))  # the one that went
    assert log == ["a", "ordinary"]
    few.clear()
    assert len(few) == 0


def test_room_is_rounded_so_that_few_shapes_exist():
    assert [room(n) for n in (0, 1, 8, 9, 64, 65, 128, 129, 200)] == [0, 8, 8, 16, 64, 72, 128, 144, 208]
    assert len({room(n) for n in range(1, 1001)}) < 45
    assert all(n <= room(n) <= max(n + 7, n * 9 / 8) for n in range(2000))


def test_places_of_processes(monkeypatch):
    """Each process may know its device as number 0; what tells them apart is the address on the bus."""
    facts = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0, uuid="u")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda one: facts)
    first = device.place_of(torch.device("cuda", 0))
    assert first.startswith("cuda ") and first.endswith(" 0:3b:0")
    facts.pci_bus_id = 0x3C
    assert device.place_of(torch.device("cuda", 0)) != first
    del facts.pci_bus_id
    assert device.place_of(torch.device("cuda", 0)).endswith(" u")
    assert device.place_of(None) == "" and device.place_of(torch.device("cpu")) == "emulated"


@pytest.mark.parametrize("places, made", [(["cuda a", "cuda b"], 1), (["cuda a", "cuda a"], 0), (["emulated"] * 2, 0)])
def test_gradients_travel_by_nccl_where_each_process_has_a_gpu(monkeypatch, places, made):
    import torch.distributed as dist

    groups = []
    monkeypatch.setattr(dist, "new_group", lambda backend: groups.append(backend))
    Several(0, 2).use_devices(places)
    assert groups == ["nccl"] * made


def test_where_only_some_processes_have_a_gpu_none_is_used(caplog, monkeypatch):
    """And all do the same exchanges."""
    for word in ("emulated", "cpu"):
        monkeypatch.setenv("DEVICE", word)
        calls = []
        group = SimpleNamespace(
            rank=0,
            gather=lambda value, calls=calls: (calls.append("gather"), [value, "emulated" if value == "" else ""])[1],
            agree=lambda state, calls=calls: (calls.append("agree"), state)[1],
        )
        with caplog.at_level("INFO", logger="deepmd"):
            assert device.settle(None, [], group).startswith("training on the CPU")
        assert calls == ["gather", "agree"] and "not for 1 of 2 processes, expected all" in caplog.text


def test_a_gpu_that_is_asked_for_and_missing_is_told_before_any_exchange(monkeypatch):
    monkeypatch.setenv("DEVICE", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        device.settle(None, [], SimpleNamespace())


def test_the_engine_keeps_its_nodes_where_a_plain_run_kept_none():
    engine = ResidentEngine.__new__(ResidentEngine)
    engine.nodes = SimpleNamespace(load_state_dict=lambda state: pytest.fail("nodes were taken"))
    engine.load_state_dict({})
