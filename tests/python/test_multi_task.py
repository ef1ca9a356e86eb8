"""Training of several tasks: shared parts, the draw of tasks, files, heads, resuming, fine-tuning, old spellings."""

from __future__ import annotations

import argparse
import copy

import numpy as np
import pytest
import torch
from deepmd import change_bias, config, freeze
from deepmd.errors import InputError, ModelError
from deepmd.infer import DeepPot
from deepmd.train import checkpoint
from small_systems import make_frames
from training_runs import changed, make_input, run

pytestmark = pytest.mark.usefixtures("compiled")


def multi_input(systems, **training):
    """Two tasks with one descriptor; `training` overrides keys of that section."""
    one = make_input(systems[0], **{"disp_training": False, **training})
    own = {key: one["training"].pop(key) for key in ("training_data", "validation_data")}
    other = copy.deepcopy(own)
    for part in other.values():
        part["systems"] = [str(systems[1])]
    net = one["model"]["fitting_net"]
    branch = {"type_map": "types", "descriptor": "common", "fitting_net": net}
    return {
        "model": {
            "shared_dict": {"types": ["O", "H"], "common": one["model"]["descriptor"]},
            "model_dict": {"a": branch, "b": {**branch, "fitting_net": {**net, "neuron": [6], "seed": 5}}},
        },
        "learning_rate": one["learning_rate"],
        "loss_dict": {"a": one["loss"], "b": {**one["loss"], "start_pref_v": 0, "limit_pref_v": 0}},
        "training": {"data_dict": {"a": own, "b": other}, "model_prob": {"a": 0.4, "b": 0.6}, **one["training"]},
    }


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    from deepmd.data import write_system

    folder, shapes = tmp_path_factory.mktemp("data"), ({"n_frames": 3}, {"n_frames": 2, "n_molecules": 3, "seed": 4})
    made = [make_frames(**shape) for shape in shapes]
    return [write_system(folder / str(k), m["types"], m["type_map"], m["data"]) for k, m in enumerate(made)]


def tasks_of(folder):
    return checkpoint.load(folder / "model.ckpt.pt")["tasks"]


@pytest.fixture(scope="module")
def trained(systems, compiled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    run(folder, multi_input(systems, disp_training=True))
    return multi_input(systems), folder


def test_the_shared_descriptor_is_one_and_the_curve_has_columns_for_each_task(trained):
    _, folder = trained
    a, b = (tasks_of(folder)[name]["model"] for name in "ab")
    for key in a:
        if key.startswith("descriptor."):
            assert torch.equal(a[key], b[key]), key
    assert a["fitting.networks.0.layers.0.w"].shape != b["fitting.networks.0.layers.0.w"].shape
    curve = np.genfromtxt(folder / "lcurve.out", names=True)
    wanted = {f"rmse{q}_{p}_{t}" for p in ("val", "trn") for t in "ab" for q in ("", "_e", "_f")}
    assert wanted | {"rmse_v_val_a", "rmse_v_trn_a", "step", "lr"} == set(curve.dtype.names)
    assert all(np.isfinite(curve[name]).all() for name in wanted) and (folder / "lcurve.png").exists()


def test_statistics_of_shared_rows_are_weighed_by_probability(systems, tmp_path):
    from deepmd.data import load_systems
    from deepmd.data.graph import GraphCache
    from deepmd.data.statistics import moments

    jdata = multi_input(systems, numb_steps=0)
    run(tmp_path, jdata)
    model, _ = checkpoint.load_model(tmp_path / "model.ckpt.pt", "b")
    sums = 0.0
    for path, weight in zip(systems, (0.4, 0.6), strict=True):
        loaded = load_systems(str(path), ["O", "H"])
        cache = GraphCache(loaded, 4.0)
        sums = sums + weight * moments(model.descriptor, [cache.batch(0, np.arange(loaded[0].n_frames))])
    mean = sums[:, 1] / sums[:, 0] / model.descriptor.n_slots
    np.testing.assert_allclose(model.descriptor.davg[:, 0], mean, rtol=1e-12)


def test_statistics_of_tasks_are_kept_together(systems, tmp_path):
    path = str(tmp_path / "stat.hdf5")
    run(tmp_path / "a", multi_input(systems, stat_file=path, numb_steps=0))
    run(tmp_path / "b", multi_input(systems[::-1], stat_file=path, numb_steps=0))
    other = multi_input(systems[::-1], numb_steps=0, model_prob={"a": 0.2, "b": 0.8})
    for task in "ab":
        other["training"]["data_dict"][task]["stat_file"] = path
    run(tmp_path / "c", other)
    first, kept, new = (tasks_of(tmp_path / folder)["b"]["model"] for folder in "abc")
    assert all(torch.equal(first[name], kept[name]) for name in ("descriptor.davg", "out_bias"))
    assert not any(torch.equal(first[name], new[name]) for name in ("descriptor.davg", "out_bias"))


def test_tasks_are_drawn_by_their_probability_and_a_task_of_none_stays_as_it_was(systems, tmp_path):
    jdata = multi_input(systems, model_prob={"a": 1.0})
    run(tmp_path / "start", changed(jdata, training__numb_steps=0))
    run(tmp_path / "end", jdata)
    for name, moves in (("a", True), ("b", False)):
        key = "fitting.networks.0.layers.0.w"
        before, after = (tasks_of(tmp_path / part)[name]["model"][key] for part in ("start", "end"))
        assert torch.equal(before, after) != moves


def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(systems, tmp_path):
    jdata = multi_input(systems, numb_steps=8, disp_training=True)
    run(tmp_path / "whole", jdata)
    run(tmp_path / "rest", jdata)
    run(tmp_path / "rest", jdata, restart=str(tmp_path / "rest" / "model.ckpt-5.pt"))
    whole, rest = tasks_of(tmp_path / "whole"), tasks_of(tmp_path / "rest")
    for name in "ab":
        assert all(torch.equal(whole[name]["model"][k], rest[name]["model"][k]) for k in whole[name]["model"])
    curves = [(tmp_path / name / "lcurve.out").read_text().splitlines()[-1] for name in ("whole", "rest")]
    assert curves[0] == curves[1]


def test_one_head_is_frozen_tested_and_changed(trained, systems, tmp_path, tiny):
    from deepmd import test as dp_test

    _, folder = trained
    made = tiny(n_frames=1)
    frame = (made["data"]["positions"], made["data"]["cell"], made["types"])
    target = tmp_path / "b.pth"
    freeze.main(argparse.Namespace(checkpoint=str(folder), head="b", output=str(target)))
    frozen = DeepPot(target).eval(*frame)[0]
    direct = DeepPot(folder / "model.ckpt.pt", head="b").eval(*frame)[0]
    assert frozen == pytest.approx(direct, abs=1e-9)
    assert DeepPot(folder / "model.ckpt.pt", head="a").eval(*frame)[0] != pytest.approx(direct, abs=1e-3)
    arguments = {"model": str(folder / "model.ckpt.pt"), "system": str(systems[1])}
    assert set(dp_test.main(argparse.Namespace(head="b", **arguments))) >= {"energy", "force"}
    with pytest.raises(ModelError, match="got a folder"):
        DeepPot(folder, head="b")
    for head, words in ((None, "--head"), ("c", "'c'")):
        with pytest.raises(ModelError, match=words):
            dp_test.main(argparse.Namespace(head=head, **arguments))
    plain = {"bias_value": [-2.0, 3.0], "system": None, "datafile": None, "numb_batch": 0, "mode": "set"}
    new = tmp_path / "new.pt"
    change_bias.main(argparse.Namespace(INPUT=arguments["model"], head="b", output=str(new), **plain))
    old, now = tasks_of(folder), checkpoint.load(new)["tasks"]
    assert now["b"]["model"]["out_bias"].tolist() == [-2.0, 3.0]
    assert torch.equal(now["a"]["model"]["out_bias"], old["a"]["model"]["out_bias"])


def test_one_task_is_tuned_from_a_head_or_from_the_descriptor_alone(trained, systems, tmp_path):
    jdata, folder = trained
    single = make_input(systems[1], numb_steps=0)
    single["model"]["fitting_net"] = {**single["model"]["fitting_net"], "neuron": [6]}
    source = str(folder / "model.ckpt.pt")
    run(tmp_path / "head", single, finetune=source, model_branch="b")
    ours, theirs = checkpoint.load(tmp_path / "head" / "model.ckpt.pt")["model"], tasks_of(folder)["b"]["model"]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if key != "out_bias")
    run(tmp_path / "random", single, finetune=source)
    ours = checkpoint.load(tmp_path / "random" / "model.ckpt.pt")["model"]
    same = {key: torch.equal(ours[key], theirs[key]) for key in theirs if key.endswith((".w", ".b"))}
    assert all(equal == key.startswith("descriptor.") for key, equal in same.items())
    with pytest.raises(ModelError, match="expected one of its tasks a, b"):
        run(tmp_path / "x", single, finetune=source, model_branch="water")


def test_several_tasks_are_tuned_from_heads(trained, systems, tmp_path):
    jdata, folder = trained
    other = changed(jdata, training__numb_steps=0)
    branches = other["model"]["model_dict"]
    branches["c"] = {**branches["b"], "finetune_head": "b"}
    branches["d"] = copy.deepcopy(branches["a"])
    for key in ("loss_dict", "training/data_dict"):
        owner = other["training"]["data_dict"] if "/" in key else other[key]
        owner["c"], owner["d"] = owner["b"], owner["a"]
    run(tmp_path / "new", other, finetune=str(folder / "model.ckpt.pt"))
    old, new = tasks_of(folder), tasks_of(tmp_path / "new")
    key = "fitting.networks.0.layers.0.w"
    assert torch.equal(new["a"]["model"][key], old["a"]["model"][key])
    assert torch.equal(new["c"]["model"][key], old["b"]["model"][key])
    assert not torch.equal(new["d"]["model"][key], old["a"]["model"][key])
    assert torch.equal(new["a"]["model"]["out_bias"], old["a"]["model"]["out_bias"])
    with pytest.raises(ModelError, match="expected the same"):
        run(tmp_path / "x", other, restart=str(folder / "model.ckpt.pt"))


def test_shared_fitting_nets_tell_tasks_apart_by_a_vector(systems, tmp_path):
    jdata = multi_input(systems, numb_steps=4)
    jdata["model"]["shared_dict"]["net"] = {"neuron": [6], "dim_case_embd": 2, "seed": 1}
    for branch in jdata["model"]["model_dict"].values():
        branch["fitting_net"] = "net"
    run(tmp_path, jdata)
    a, b = (tasks_of(tmp_path)[name]["model"] for name in "ab")
    assert a["fitting.case_embd"].tolist() == [1, 0] and b["fitting.case_embd"].tolist() == [0, 1]
    assert all(torch.equal(a[key], b[key]) for key in a if ".networks." in key)
    freeze.freeze_model(checkpoint.load_model(tmp_path / "model.ckpt.pt", "b")[0], tmp_path / "b.pth")


def test_level_one_shares_the_vectors_of_types_only(systems, tmp_path):
    jdata = multi_input(systems, numb_steps=2)
    jdata["model"]["shared_dict"]["common"] = {"type": "se_atten", "sel": 40, "rcut": 4.0, "rcut_smth": 0.5,
        "neuron": [4], "axis_neuron": 2, "attn_layer": 0, "tebd_dim": 3}  # fmt: skip
    jdata["model"]["model_dict"]["b"]["descriptor"] = "common:1"
    run(tmp_path, jdata)
    a, b = (tasks_of(tmp_path)[name]["model"] for name in "ab")
    same = {key: torch.equal(a[key], b[key]) for key in a if key.startswith("descriptor.") and key.endswith(".w")}
    assert all(equal == ("type_embedding" in key) for key, equal in same.items()) and len(same) > 1


def test_tasks_may_predict_other_things_and_be_counted_in_epochs(systems, tmp_path):
    jdata = multi_input(systems)
    for key in ("numb_steps", "model_prob"):
        del jdata["training"][key]
    jdata["training"]["num_epoch_dict"] = {"a": 2, "b": 3}
    jdata["model"]["shared_dict"]["common"]["sel"] = "auto"
    run(tmp_path, jdata)
    assert checkpoint.load(tmp_path / "model.ckpt.pt")["step"] == 2 * 2 + 3 * 1
    full = config.normalise(jdata)
    assert config.normalise(full) == full


def test_the_spelling_of_old_manuals_is_upgraded(systems):
    new = multi_input(systems)
    branches, shared = new["model"]["model_dict"], new["model"]["shared_dict"]
    old = copy.deepcopy(new)
    nets = {name: branch["fitting_net"] for name, branch in branches.items()}
    old["model"] = {"type_map": shared["types"], "descriptor": shared["common"], "fitting_net_dict": nets}
    old["training"]["fitting_weight"] = old["training"].pop("model_prob")
    old["learning_rate_dict"] = dict.fromkeys("ab", old.pop("learning_rate"))
    current, changes = config.upgrade(old)
    assert len([line for line in changes if "fitting_" in line or "learning_rate_dict" in line]) == 3
    new["learning_rate"].setdefault("stop_lr", 1e-5)
    new["model"]["shared_dict"] = {"types": shared["types"], "descriptor": shared["common"]}
    for branch in branches.values():
        branch["descriptor"] = "descriptor"
    assert config.normalise(current) == config.normalise(new)
    old["learning_rate_dict"] = {"a": {"start_lr": 1e-3}, "b": {"start_lr": 1e-4}}
    with pytest.raises(InputError, match="learning_rate_dict"):
        config.upgrade(old)


WRONG = [
    ("model__model_dict__b__descriptor", "comon", "did you mean 'common'"),
    ("model__model_dict__b__descriptor", "common:2", "level 0 or 1"),
    ("model__model_dict__b__type_map", ["H", "O"], "shares its descriptor"),
    ("model__model_dict__b__fitting_net__neuron", "x", "task 'b'"),
    ("model__model_dict__b__fitting_net__dim_case_embd", 3, "number of tasks"),
    ("model__model_dict__RANDOM", {}, "another name"),
    ("model__descriptor", {}, "shared_dict"),
    ("loss", {}, "loss_dict"),
    ("loss_dict__c", {}, "task of model/model_dict"),
    ("training__data_dict__b", 3, "training/data_dict/b"),
    ("training__model_prob__b", -1, "probability"),
    ("training__training_data", {}, "data_dict"),
]


@pytest.mark.parametrize("path, value, words", WRONG, ids=[f"{p}={v}"[:60] for p, v, _ in WRONG])
def test_what_is_wrong_is_told_in_one_sentence(path, value, words):
    jdata = changed(multi_input(["x", "y"]), **{path: value})
    with pytest.raises(InputError, match=words):
        config.normalise(jdata)
