"""A training run as its user meets it: files, resume, faults."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepmd.errors import InputError, ModelError, TrainingError
from deepmd.freeze import freeze_model
from deepmd.nn.nodes import node_parts
from deepmd.plots import read_lcurve
from deepmd.train import checkpoint
from deepmd.train.files import sole_writer
from training_runs import NUMB_STEPS, changed, equal, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def jdata(tiny_system):
    return make_input(tiny_system(n_frames=7))


def test_a_run_leaves_the_documented_files(tmp_path, jdata):
    run(tmp_path / "a", jdata)
    folder = tmp_path / "a"
    names = {p.name for p in folder.iterdir()}
    expected = {"out.json", "input_v2_compat.json", "lcurve.out", "lcurve.png", "model.ckpt.pt", "checkpoint"}
    assert expected | {f"model.ckpt-{k}.pt" for k in (5, 10, 12)} <= names
    assert not [n for n in names if n.endswith(".tmp")]
    assert (folder / "checkpoint").read_text().strip() == "model.ckpt-12.pt"
    assert (folder / "model.ckpt.pt").resolve().name == "model.ckpt-12.pt"
    curve = np.genfromtxt(folder / "lcurve.out", names=True)
    assert list(curve["step"]) == [1, 4, 8, 12]
    assert set(curve.dtype.names) >= {"rmse_val", "rmse_trn", "rmse_e_val", "rmse_f_trn", "rmse_v_trn", "lr"}
    assert np.isfinite(np.loadtxt(folder / "lcurve.out")).all()


def test_the_same_input_gives_the_same_weights(tmp_path, jdata):
    run(tmp_path / "a", jdata)
    run(tmp_path / "b", jdata)
    run(tmp_path / "c", changed(jdata, training__seed=4))
    first = weights(tmp_path / "a" / "model.ckpt.pt")
    assert equal(first, weights(tmp_path / "b" / "model.ckpt.pt"))
    assert not equal(first, weights(tmp_path / "c" / "model.ckpt.pt"))


@pytest.mark.parametrize("variant", ["adam", "adamw", "plain path", "float32", "one-sided"])
def test_restart_continues_bit_for_bit(tmp_path, jdata, variant):
    changes = {
        "adam": {},
        "adamw": {"optimizer__type": "AdamW"},
        "plain path": {"model__descriptor__activation_function": "relu"},
        "float32": {"model__descriptor__precision": "float32", "model__fitting_net__precision": "float32"},
        "one-sided": {"model__descriptor__type_one_side": True},
    }[variant]
    jdata = changed(jdata, **changes)
    run(tmp_path / "whole", jdata)
    whole = tmp_path / "whole"
    run(tmp_path / "rest", jdata, restart=str(whole / "model.ckpt-5.pt"))
    assert equal(weights(whole / "model.ckpt.pt"), weights(tmp_path / "rest" / "model.ckpt.pt"))
    a, b = (checkpoint.load(p / "model.ckpt.pt") for p in (whole, tmp_path / "rest"))
    assert a["sampler"] == b["sampler"] and a["step"] == b["step"] == NUMB_STEPS


def test_restart_appends_to_the_learning_curve_without_repeats(tmp_path, jdata):
    folder = tmp_path / "a"
    run(folder, jdata)
    whole = np.loadtxt(folder / "lcurve.out")
    run(folder, jdata, restart="model.ckpt-5")
    np.testing.assert_array_equal(np.loadtxt(folder / "lcurve.out"), whole)
    assert (folder / "lcurve.out").read_text().count("step") == 2  # the header is repeated where the run went on


def test_a_fresh_run_sets_an_earlier_one_aside_whole(tmp_path, jdata):
    folder, earlier = tmp_path / "a", tmp_path / "a" / "model.ckpt.earlier-1"
    run(folder, jdata)
    curve, last = (folder / "lcurve.out").read_text(), weights(folder / "model.ckpt.pt")
    for _ in range(2):
        run(folder, changed(jdata, training__numb_steps=3))
        assert [p.name for p in checkpoint.family(folder / "model.ckpt")] == ["model.ckpt-3.pt"]
    assert (earlier / "lcurve.out").read_text() == curve
    assert checkpoint.find_checkpoint(earlier) == earlier / "model.ckpt-12.pt"
    assert equal(weights(earlier / "model.ckpt.pt"), last)
    assert (folder / "model.ckpt.earlier-2" / "model.ckpt-3.pt").exists()


def test_restarting_from_an_early_checkpoint_keeps_what_it_writes(tmp_path, jdata):
    """Checkpoints of later steps, of the run that is given up, must not push out the new ones as the oldest."""
    folder = tmp_path / "a"
    run(folder, changed(jdata, training__save_freq=1, training__max_ckpt_keep=12))
    run(folder, changed(jdata, training__numb_steps=6, training__max_ckpt_keep=2), restart="model.ckpt-5")
    assert [p.name for p in checkpoint.family(folder / "model.ckpt")] == ["model.ckpt-5.pt", "model.ckpt-6.pt"]
    assert checkpoint.find_checkpoint(folder).name == "model.ckpt-6.pt"
    assert checkpoint.load(folder / "model.ckpt.pt")["step"] == 6
    assert len(checkpoint.family(folder / "model.ckpt.earlier-1" / "model.ckpt")) == 7


def test_a_folder_stands_for_its_own_checkpoint_wherever_the_command_runs(tmp_path, jdata, monkeypatch):
    for name, seed in (("a", 1), ("b", 2)):
        run(tmp_path / name, changed(jdata, training__numb_steps=1, training__seed=seed))
    monkeypatch.chdir(tmp_path / "a")
    assert checkpoint.find_checkpoint("../b").resolve() == tmp_path / "b" / "model.ckpt-1.pt"


def test_checkpoints_in_a_folder_are_found_from_where_the_training_was_started(tmp_path, jdata, monkeypatch):
    run(tmp_path / "a", changed(jdata, training__numb_steps=1, training__save_ckpt="kept/model.ckpt"))
    monkeypatch.chdir(tmp_path / "a")
    assert checkpoint.find_checkpoint(".").resolve() == tmp_path / "a" / "kept" / "model.ckpt-1.pt"
    assert checkpoint.find_checkpoint("kept").name == "model.ckpt-1.pt"


@pytest.mark.parametrize("kind", ["se_e2_a", "se_e2_r", "se_e3", "se_atten"])
def test_lonely_atoms_can_be_trained_on(tmp_path, jdata, tiny, kind):
    """Energies of single atoms, as they fix the dissociation limit; alone they have no neighbours to count."""
    from deepmd.data import write_system

    made = tiny(n_frames=2, periodic=False)
    data = {key: made["data"][key][:, :1] for key in ("positions", "force")} | {"energy": made["data"]["energy"]}
    folder = str(write_system(tmp_path / "data", made["types"][:1], made["type_map"], data))
    descriptor = {"type": kind, "rcut": 4.0, "sel": "auto", "neuron": [4], "seed": 1}
    parts = {f"training__{part}__systems": folder for part in ("training_data", "validation_data")}
    run(tmp_path / "a", changed(jdata, model__descriptor=descriptor, training__numb_steps=1, **parts))
    assert np.isfinite(np.loadtxt(tmp_path / "a" / "lcurve.out")[:7]).all()


def test_what_looks_wrong_in_the_data_is_told_before_training(tmp_path, jdata, tiny, caplog):
    from deepmd.data import write_system

    made = tiny(n_frames=3)
    made["data"]["force"] = 30.0 * made["data"]["force"]
    folder = write_system(tmp_path / "data", made["types"], made["type_map"], made["data"])
    with caplog.at_level("WARNING", logger="deepmd"):
        run(tmp_path / "a", changed(jdata, training__numb_steps=0, training__training_data__systems=str(folder)))
    assert "forces must be in eV/A" in caplog.text


def test_a_second_process_in_the_same_folder_is_refused(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__numb_steps=1))
    with sole_writer(tmp_path / "a" / "model.ckpt"), pytest.raises(InputError, match="another process is writing"):
        run(tmp_path / "a", jdata)
    assert checkpoint.find_checkpoint(tmp_path / "a").name == "model.ckpt-1.pt"
    run(tmp_path / "a", jdata)


def test_a_restart_may_change_the_columns_of_the_curve(tmp_path, jdata):
    folder = tmp_path / "a"
    run(folder, changed(jdata, training__numb_steps=5))
    del (changes := changed(jdata))["training"]["validation_data"]
    run(folder, changes, restart="model.ckpt")
    assert (folder / "lcurve.png").stat().st_mtime >= (folder / "model.ckpt-12.pt").stat().st_mtime
    assert list(read_lcurve(folder / "lcurve.out")["step"]) == [8, 12]


def test_rows_of_the_curve_that_a_kill_cut_off_are_dropped(tmp_path, jdata):
    folder = tmp_path / "a"
    run(folder, jdata)
    whole = np.loadtxt(folder / "lcurve.out")
    with open(folder / "lcurve.out", "a") as file:
        file.write("\n      1")
    run(folder, jdata, restart="model.ckpt-5")
    np.testing.assert_array_equal(np.loadtxt(folder / "lcurve.out"), whole)


def test_only_the_newest_checkpoints_are_kept(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__save_freq=1, training__max_ckpt_keep=2))
    assert [p.name for p in checkpoint.family(tmp_path / "a" / "model.ckpt")] == [
        "model.ckpt-11.pt",
        "model.ckpt-12.pt",
    ]


def test_a_share_of_the_checkpoints_is_kept(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__save_freq=3, training__ckpt_keep_ratio=0.4))
    assert [p.name for p in checkpoint.family(tmp_path / "a" / "model.ckpt")] == ["model.ckpt-9.pt", "model.ckpt-12.pt"]


def test_training_errors_are_averaged_between_two_lines(tmp_path, jdata):
    every, some = (tmp_path / name for name in ("every", "some"))
    run(every, changed(jdata, training__disp_freq=1))
    run(some, changed(jdata, training__disp_freq=4, training__disp_avg=True))
    single, means = (np.genfromtxt(folder / "lcurve.out", names=True)["rmse_f_trn"] for folder in (every, some))
    expected = [single[0], *(np.sqrt((single[a:b] ** 2).mean()) for a, b in ((1, 4), (4, 8), (8, 12)))]
    np.testing.assert_allclose(means, expected, rtol=0.02)  # written with three digits; batches of equal size


def test_no_steps_still_give_a_checkpoint(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__numb_steps=0))
    assert (tmp_path / "a" / "model.ckpt-0.pt").exists()


def test_training_learns(tmp_path, jdata):
    """Labels made by another model of the same shape are learnt: the force error falls by a factor."""
    import training_runs
    from deepmd.data import load_systems, write_system
    from deepmd.nn.frames import evaluate, find_pairs

    run(tmp_path / "teacher", changed(jdata, training__numb_steps=0, model__fitting_net__seed=99))
    teacher, _ = checkpoint.load_model(tmp_path / "teacher" / "model.ckpt.pt")
    system = load_systems(jdata["training"]["training_data"]["systems"], ["O", "H"])[0]
    data = system.frames(None, ())
    results = []
    for positions, cell in zip(data["positions"], data["cell"], strict=True):
        results.append(evaluate(teacher, find_pairs(positions, cell, 4.0), system.types))
    labels = {
        "energy": np.concatenate([r["energy"] for r in results]),
        "force": np.stack([r["forces"] for r in results]),
        "virial": np.stack([r["virial"] for r in results]),
    }
    folder = write_system(
        tmp_path / "taught", system.types, ["O", "H"], {"positions": data["positions"], "cell": data["cell"], **labels}
    )
    taught = training_runs.make_input(folder, numb_steps=400, disp_freq=100, save_freq=400)
    run(tmp_path / "pupil", changed(taught, learning_rate__decay_steps=100))
    curve = np.genfromtxt(tmp_path / "pupil" / "lcurve.out", names=True)
    assert curve["rmse_f_val"][-1] < 0.2 * curve["rmse_f_val"][0]


@pytest.mark.parametrize("key", ["force", "energy"])
def test_a_non_finite_loss_stops_and_names_the_frames(tmp_path, tiny, key):
    from deepmd.data import write_system

    made = tiny(n_frames=3)
    made["data"][key][1] = math.inf
    folder = write_system(tmp_path / "bad", made["types"], made["type_map"], made["data"])
    jdata = make_input(folder, save_freq=1)
    jdata["training"]["training_data"]["batch_size"] = 1
    with pytest.raises(TrainingError, match=r"the loss is (inf|nan) for .*bad.* frame 1"):
        run(tmp_path / "a", jdata, check_data=False)
    saved = checkpoint.family(tmp_path / "a" / "model.ckpt")
    assert all(torch.isfinite(v).all() for p in saved for v in weights(p).values())


def test_faulty_data_are_refused_before_the_first_step(tmp_path, tiny):
    from deepmd.data import write_system
    from deepmd.errors import DataError

    made = tiny(n_frames=3)
    made["data"]["force"][2, 4, 1] = math.nan
    folder = write_system(tmp_path / "bad", made["types"], made["type_map"], made["data"])
    with pytest.raises(DataError, match="force.npy"):
        run(tmp_path / "a", make_input(folder))
    assert not (tmp_path / "a" / "lcurve.out").exists()


def test_init_model_starts_from_the_weights_at_step_zero(tmp_path, jdata):
    run(tmp_path / "a", jdata)
    run(tmp_path / "b", changed(jdata, training__numb_steps=0), init_model=str(tmp_path / "a" / "model.ckpt"))
    assert equal(weights(tmp_path / "a" / "model.ckpt.pt"), weights(tmp_path / "b" / "model.ckpt-0.pt"))


def test_init_frz_model_starts_from_a_frozen_model(tmp_path, jdata):
    run(tmp_path / "a", jdata)
    model, _ = checkpoint.load_model(tmp_path / "a" / "model.ckpt.pt")
    freeze_model(model, tmp_path / "graph.pth")
    run(tmp_path / "b", changed(jdata, training__numb_steps=0), init_frz_model=str(tmp_path / "graph.pth"))
    assert equal(weights(tmp_path / "a" / "model.ckpt.pt"), weights(tmp_path / "b" / "model.ckpt-0.pt"))


def test_finetune_moves_the_energy_bias_to_the_new_data(tmp_path, jdata, tiny):
    from deepmd.data import write_system

    run(tmp_path / "a", jdata)
    made = tiny(n_frames=7)
    made["data"]["energy"] += 12.0 * 3.0  # 12 atoms, 3 eV each
    shifted = make_input(
        write_system(tmp_path / "shifted", made["types"], made["type_map"], made["data"]), numb_steps=0
    )
    run(tmp_path / "b", shifted, finetune=str(tmp_path / "a" / "model.ckpt.pt"))
    old, new = weights(tmp_path / "a" / "model.ckpt.pt"), weights(tmp_path / "b" / "model.ckpt-0.pt")
    assert not torch.equal(old["out_bias"], new["out_bias"])
    assert equal({k: v for k, v in old.items() if k != "out_bias"}, {k: v for k, v in new.items() if k != "out_bias"})


def test_a_different_architecture_is_refused_in_words(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__numb_steps=0))
    start = str(tmp_path / "a" / "model.ckpt.pt")
    with pytest.raises(ModelError, match="networks differ"):
        run(tmp_path / "b", changed(jdata, model__fitting_net__neuron=[8, 8]), init_model=start)
    with pytest.raises(ModelError, match="its rcut is 4.0, the input says 5.0"):
        run(tmp_path / "b", changed(jdata, model__descriptor__rcut=5.0), init_model=start)
    with pytest.raises(ModelError, match="type_map"):
        run(tmp_path / "b", changed(jdata, model__type_map=["H", "O"]), init_model=start)
    with pytest.raises(InputError, match="--init-model and --restart"):
        run(tmp_path / "b", jdata, init_model=start, restart=start)


def test_use_pretrain_script_takes_the_model_section(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__numb_steps=0))
    other = changed(jdata, model__fitting_net__neuron=[8, 8], training__numb_steps=0)
    run(tmp_path / "b", other, init_model=str(tmp_path / "a" / "model.ckpt.pt"), use_pretrain_script=True)
    assert equal(weights(tmp_path / "a" / "model.ckpt.pt"), weights(tmp_path / "b" / "model.ckpt-0.pt"))


def test_wrong_files_as_checkpoints_are_refused_in_words(tmp_path, jdata):
    run(tmp_path / "a", changed(jdata, training__numb_steps=0))
    good = tmp_path / "a" / "model.ckpt-0.pt"
    content = good.read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.pt"
    for place in rng.integers(0, len(content), 200):
        changed_bytes = bytearray(content)
        changed_bytes[place] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(changed_bytes)
        with pytest.raises(ModelError):
            checkpoint.load(damaged)
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cut short"):
        checkpoint.load(damaged)
    model, _ = checkpoint.load_model(good)
    freeze_model(model, tmp_path / "graph.pth")
    with pytest.raises(ModelError, match="frozen model"):
        checkpoint.load(tmp_path / "graph.pth")
    with pytest.raises(ModelError, match="no such checkpoint"):
        checkpoint.find_checkpoint(tmp_path / "absent")
    with pytest.raises(ModelError, match="without the file 'checkpoint'"):
        checkpoint.find_checkpoint(tmp_path)


def test_sel_auto_is_resolved_from_the_data(tmp_path, jdata):
    import json

    run(tmp_path / "a", changed(jdata, model__descriptor__sel="auto", training__numb_steps=0))
    sel = json.loads((tmp_path / "a" / "out.json").read_text())["model"]["descriptor"]["sel"]
    assert len(sel) == 2 and all(isinstance(n, int) and n % 4 == 0 and n > 0 for n in sel)
    with pytest.raises(InputError, match="--skip-neighbor-stat"):
        run(tmp_path / "a", changed(jdata, model__descriptor__sel="auto"), skip_neighbor_stat=True)


def test_skipping_the_statistics_of_neighbours_trains_all_the_same(tmp_path, jdata):
    run(tmp_path / "a", jdata, skip_neighbor_stat=True)
    assert node_parts(checkpoint.load_model(tmp_path / "a" / "model.ckpt.pt")[0])


def test_a_stat_file_is_made_once_and_used_afterwards(tmp_path, jdata, tiny_system):
    jdata = changed(jdata, training__stat_file="stat.hdf5", training__numb_steps=0)
    run(tmp_path / "a", jdata)
    first = weights(tmp_path / "a" / "model.ckpt.pt")
    other = make_input(
        tiny_system("other", n_frames=4, seed=9), numb_steps=0, stat_file=str(tmp_path / "a" / "stat.hdf5")
    )
    run(tmp_path / "b", other)
    second = weights(tmp_path / "b" / "model.ckpt.pt")
    assert torch.equal(first["descriptor.davg"], second["descriptor.davg"])
    run(tmp_path / "c", changed(other, model__descriptor__rcut=3.9))
    third = weights(tmp_path / "c" / "model.ckpt.pt")
    assert not torch.equal(first["descriptor.davg"], third["descriptor.davg"])


def test_change_bias_after_training_removes_the_mean_error(tmp_path, jdata):
    run(tmp_path / "a", jdata)
    run(tmp_path / "b", changed(jdata, training__change_bias_after_training=True))
    a, b = (weights(tmp_path / k / "model.ckpt.pt") for k in "ab")
    assert not torch.equal(a["out_bias"], b["out_bias"])
    assert torch.equal(a["fitting.networks.0.layers.0.w"], b["fitting.networks.0.layers.0.w"])


def test_no_curve_and_no_times_when_they_are_not_wanted(tmp_path, jdata, caplog):
    caplog.set_level("INFO")
    run(tmp_path / "a", changed(jdata, training__disp_training=False, training__time_training=False))
    assert not (tmp_path / "a" / "lcurve.out").exists()
    assert "wall time" not in caplog.text and "Batch       1: trn" in caplog.text
