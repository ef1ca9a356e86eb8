"""Fine-tuning with other types or a new fitting net, and `dp change-bias`."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from deepmd import change_bias
from deepmd.errors import InputError, ModelError
from deepmd.nn.frames import evaluate, find_pairs
from deepmd.train.checkpoint import load_model
from reference.tiny_models import make_frames
from training_runs import changed, make_input, run

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

TYPED = {"type": "se_atten", "sel": 40, "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8], "axis_neuron": 3,
         "attn_layer": 0, "tebd_dim": 3, "set_davg_zero": True, "seed": 1}  # fmt: skip


@pytest.fixture
def trained(tiny_system, tmp_path):
    """Input and checkpoint of a model with type vectors."""
    jdata = changed(make_input(tiny_system(n_frames=3), numb_steps=3), model__descriptor=TYPED)
    run(tmp_path / "old", jdata)
    return jdata, str(tmp_path / "old" / "model.ckpt.pt")


def atom_energy(path, types):
    model, _ = load_model(path)
    frame = make_frames()["molecule"]
    result = evaluate(model.eval(), find_pairs(frame.positions, None, 4.0), np.asarray(types)[frame.types])
    return result["atom_energy"] - model.out_bias[torch.as_tensor(types)].numpy()[frame.types], result["forces"]


@pytest.mark.parametrize("type_map", [["H", "O"], ["H", "C", "O"], ["C", "H", "Si", "O", "N", "S"]])
def test_weights_follow_the_names_of_the_types(trained, tmp_path, type_map):
    """Also where the number of types makes the layer of the type vectors gain or lose its skip."""
    jdata, old = trained
    run(tmp_path / "new", changed(jdata, model__type_map=type_map, training__numb_steps=0), finetune=old)
    new = tmp_path / "new" / "model.ckpt.pt"
    types = [type_map.index(name) for name in ("O", "H")]
    for ours, theirs in zip(atom_energy(new, types), atom_energy(old, [0, 1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    model, _ = load_model(new)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    run(tmp_path / "on", changed(jdata, model__type_map=type_map, training__numb_steps=2), finetune=old)


def test_empty_slots_carry_the_first_type_where_davg_is_not_zero(tiny_system, tmp_path, caplog):
    section = {**TYPED, "set_davg_zero": False}
    jdata = changed(make_input(tiny_system(n_frames=3), numb_steps=1), model__descriptor=section)
    run(tmp_path / "old", jdata)
    other = changed(jdata, model__type_map=["H", "O"], training__numb_steps=0)
    run(tmp_path / "new", other, finetune=str(tmp_path / "old" / "model.ckpt.pt"))
    assert "empty slots" in caplog.text


def test_networks_for_each_type_cannot_change_their_types(tiny_system, tmp_path):
    jdata = make_input(tiny_system(), numb_steps=1)
    run(tmp_path / "old", jdata)
    other = changed(jdata, model__type_map=["H", "O"], model__descriptor__sel=[32, 16])
    with pytest.raises(ModelError, match="networks for each type"):
        run(tmp_path / "new", other, finetune=str(tmp_path / "old" / "model.ckpt.pt"))
    with pytest.raises(ModelError, match="--finetune"):
        run(tmp_path / "new", other, init_model=str(tmp_path / "old" / "model.ckpt.pt"))


def test_a_random_branch_keeps_the_descriptor_alone(trained, tmp_path):
    jdata, old = trained
    other = changed(jdata, model__fitting_net__neuron=[6], training__numb_steps=0)
    run(tmp_path / "new", other, finetune=old, model_branch="RANDOM")
    ours, theirs = load_model(tmp_path / "new" / "model.ckpt.pt")[0], load_model(old)[0]
    for key, value in theirs.descriptor.state_dict().items():
        assert torch.equal(ours.descriptor.state_dict()[key], value), key
    with pytest.raises(InputError, match="RANDOM"):
        run(tmp_path / "x", other, finetune=old, model_branch="water")
    with pytest.raises(InputError, match="without --finetune"):
        run(tmp_path / "x", other, model_branch="RANDOM")


def options(source, **other):
    plain = {"bias_value": None, "system": None, "datafile": None, "numb_batch": 0, "mode": "change", "output": None}
    return argparse.Namespace(INPUT=str(source), **{**plain, **other})


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("mode", ["change", "set"])
def test_the_bias_is_moved_to_new_data(trained, tiny, tmp_path, suffix, mode):
    from deepmd.data import write_system
    from deepmd.freeze import freeze_model
    from deepmd.infer import DeepPot

    source = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        source.write_bytes(open(trained[1], "rb").read())
    else:
        freeze_model(load_model(trained[1])[0], source)
    made = tiny(n_frames=4)
    made["data"]["energy"][:] = -1234.0
    data = write_system(tmp_path / "data", made["types"], made["type_map"], made["data"])
    change_bias.main(options(source, system=str(data), mode=mode))
    result = DeepPot(tmp_path / f"m_updated{suffix}")
    energies = result.eval(made["data"]["positions"], made["data"]["cell"], made["types"])[0]
    if mode == "change":
        assert energies.mean() == pytest.approx(-1234.0, abs=1e-8)
    else:
        from deepmd import model_file
        from deepmd.nn.model import deserialize

        path = tmp_path / f"m_updated{suffix}"
        model = load_model(path)[0] if suffix == ".pt" else deserialize(model_file.read(path).tree)
        bias = model.out_bias.numpy().ravel()
        np.testing.assert_allclose(bias @ np.bincount(made["types"]), -1234.0, rtol=1e-10)


def test_given_energies_and_refusals(trained, tmp_path):
    target = tmp_path / "new.pt"
    change_bias.main(options(trained[1], bias_value=[-3.0, 4.5], output=str(target)))
    assert load_model(target)[0].out_bias.tolist() == [-3.0, 4.5]
    for wrong, words in (({"bias_value": [1.0]}, "1 numbers"), ({}, "no data"), ({"output": "x.pth"}, "suffix")):
        with pytest.raises(InputError, match=words):
            change_bias.main(options(trained[1], **wrong))
