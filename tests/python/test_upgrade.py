"""Old forms of the model section and of whole inputs: one line for each change, and nothing dropped in silence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from deepmd.config import normalise, upgrade
from deepmd.errors import InputError

RANGE = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 30}
REST = {"learning_rate": {"start_lr": 0.001}, "training": {"training_data": {"systems": "data"}, "numb_steps": 1}}


def whole(descriptor: dict[str, Any], **more: Any) -> dict[str, Any]:
    model = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {}, **more}
    return copy.deepcopy({"model": model, **REST})


FLAT = {
    "type": "dpa2", "tebd_dim": 6, "smooth": True, "repformer_add_type_ebd_to_seq": True,
    "repinit_rcut": 4.0, "repinit_rcut_smth": 0.5, "repinit_nsel": 30, "repinit_neuron": [4, 8],
    "repinit_axis_neuron": 2,
    "repinit_activation": "gelu", "repformer_rcut": 3.0, "repformer_rcut_smth": 0.5, "repformer_nsel": 10,
    "repformer_axis_dim": 2, "repformer_do_bn_mode": "no", "repformer_bn_momentum": 0.1,
    "repformer_activation": "silu", "repformer_update_style": "res_avg",
}  # fmt: skip


def test_flat_keys_of_dpa2():
    raw = whole(FLAT)
    before = copy.deepcopy(raw)
    current, changes = upgrade(raw)
    assert raw == before
    moved = [key for key in FLAT if key.startswith("rep") or key == "tebd_dim"]
    moved.remove("repformer_add_type_ebd_to_seq")
    assert len(changes) == len(moved) and all(any(f"/{key} " in line for line in changes) for key in moved)
    nested = {
        "type": "dpa2", "smooth": True, "add_tebd_to_repinit_out": True,
        "repinit": {**RANGE, "neuron": [4, 8], "axis_neuron": 2, "activation_function": "gelu", "tebd_dim": 6},
        "repformer": {"rcut": 3.0, "rcut_smth": 0.5, "nsel": 10, "axis_neuron": 2, "activation_function": "silu",
                      "update_style": "res_avg"},
    }  # fmt: skip
    assert normalise(current) == normalise(whole(nested))
    assert upgrade(current) == (current, [])


def test_parts_of_hybrids_and_sums_are_upgraded_too():
    hybrid = {"type": "hybrid", "list": [{"type": "se_e2_a", "sel": [4, 8]}, FLAT]}
    current, changes = upgrade(whole(hybrid))
    assert any(line.startswith("model/descriptor/list[1]/repinit_rcut moved") for line in changes)
    normalise(current)
    part = {key: value for key, value in whole(FLAT)["model"].items() if key != "type_map"}
    raw = {"model": {"type": "linear_ener", "type_map": ["O", "H"], "models": [part]}, **copy.deepcopy(REST)}
    current, changes = upgrade(raw)
    assert any(line.startswith("model/models[0]/descriptor/repinit_rcut moved") for line in changes)
    normalise(current)


def test_options_of_alpha_versions_are_dropped_where_nothing_is_lost():
    old = {"post_ln": True, "ffn": False, "ffn_embed_dim": 1024, "head_num": 1, "return_rot": False}
    current, changes = upgrade(whole({"type": "se_atten", "sel": 30, **old}))
    assert len(changes) == len(old) and current == whole({"type": "se_atten", "sel": 30})
    normalise(current)


def test_the_type_embedding_of_version_2():
    net = {"neuron": [5], "resnet_dt": False, "seed": 1}
    current, changes = upgrade(whole({"type": "se_atten", "sel": 30}, type_embedding=net))
    assert len(changes) == 1 and "model/type_embedding became model/descriptor/tebd_dim (5)" in changes[0]
    assert normalise(current)["model"]["descriptor"]["tebd_dim"] == 5
    current, changes = upgrade(whole({"type": "se_e2_a", "sel": [4, 8]}, type_embedding=net))
    found = normalise(current)["model"]["descriptor"]
    assert len(changes) == 2 and (found["type"], found["attn_layer"], found["tebd_dim"]) == ("se_atten", 0, 5)
    assert (found["tebd_input_mode"], found["set_davg_zero"]) == ("concat", False)
    with pytest.raises(InputError, match="type_embedding.*documented"):
        normalise(upgrade(whole({"type": "se_e2_r", "sel": [4, 8]}, type_embedding=net))[0])


@pytest.mark.parametrize("name", ["se_a_ebd_v2", "se_a_tpe_v2"])
def test_the_stripped_embedding_of_version_2(name):
    old = {"type": name, "sel": [4, 8], "neuron": [4, 8], "axis_neuron": 2, "type_one_side": True}
    current, changes = upgrade(whole(old, type_embedding={"neuron": [5]}))
    found = normalise(current)["model"]["descriptor"]
    assert any(name in line for line in changes) and found["tebd_dim"] == 5 and found["type_one_side"]
    wanted = {"type": "se_atten", "tebd_input_mode": "strip", "attn_layer": 0, "smooth_type_embedding": False}
    assert wanted.items() <= found.items() and not found["set_davg_zero"]


@pytest.mark.parametrize(
    ("descriptor", "more", "words"),
    [
        ({"type": "se_atten", "sel": 30, "ffn": True}, {}, "descriptor/ffn: got true.*feed-forward"),
        ({"type": "se_atten", "sel": 30, "head_num": 4}, {}, "descriptor/head_num: got 4.*several heads"),
        ({**FLAT, "repformer_do_bn_mode": "uniform"}, {}, "repformer_do_bn_mode: got 'uniform'.*batch norm"),
        ({**FLAT, "repinit": RANGE}, {}, "repinit_rcut: got 4.0.*keep one"),
        ({"type": "se_atten", "sel": 30}, {"type_embedding": {"neuron": [2, 4]}}, "type_embedding/neuron: got .2, 4."),
        ({"type": "se_atten", "sel": 30, "tebd_dim": 8}, {"type_embedding": {"neuron": [4]}}, "tebd_dim of the desc"),
    ],
)
def test_what_would_change_a_model_is_refused(descriptor, more, words):
    with pytest.raises(InputError, match=words):
        upgrade(whole(descriptor, **more))


def test_every_key_of_version_0_has_its_line():
    old = {
        "use_smooth": True, "type_map": ["O", "H"], "sel_a": [46, 92], "rcut": 6.0, "rcut_smth": 5.8,
        "filter_neuron": [25, 50, 100], "filter_resnet_dt": False, "n_axis_neuron": 16, "n_neuron": [240, 240],
        "resnet_dt": True, "coord_norm": True, "type_fitting_net": False, "load_ckpt": "model.ckpt", "systems": ["../"],
        "set_prefix": "set", "stop_batch": 1000, "batch_size": 4, "start_lr": 0.001, "decay_steps": 50,
        "decay_rate": 0.95, "start_pref_e": 0.02, "seed": 1, "numb_test": 2, "save_freq": 10,
    }  # fmt: skip
    current, changes = upgrade(old)
    normalise(current)
    for key in ("use_smooth", "coord_norm", "type_fitting_net", "load_ckpt", "set_prefix", "numb_test"):
        assert sum(f"{key} " in line and "dropped" in line for line in changes) == 1, key
    for key in ("sel_a", "filter_neuron", "filter_resnet_dt", "n_axis_neuron", "n_neuron", "resnet_dt", "seed"):
        assert sum(line.startswith(f"{key} moved") for line in changes) == 1, key
