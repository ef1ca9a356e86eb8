"""Checkpoints of DeePMD-kit's PyTorch backend: every number in its place, nothing read in part, no code run."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from deepmd import exchange, foreign_checkpoint
from deepmd.errors import InputError, ModelError
from deepmd.nn.model import build, deserialize
from deepmd.train import start
from deepmd.train.origin import Origin

DATA = Path(__file__).parents[1] / "data"
MULTI = DATA / "checkpoints" / "two_tasks.pt"
FILES = sorted(path for path in (DATA / "checkpoints").glob("*.pt") if path != MULTI)


def compare(ours, theirs, where):
    if where.endswith("/precision") or (where.endswith("/atom_ener") and not ours and not theirs):
        return  # "default" is float64, an empty list is none
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for key in theirs:
            compare(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            compare(a, b, f"{where}/{k}")
    elif isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_tree_is_the_one_that_the_peer_writes(path):
    assert foreign_checkpoint.is_foreign(path)
    ours, theirs = foreign_checkpoint.read_tree(path), exchange.read_tree(DATA / "peer" / f"{path.stem}.dp")
    compare(ours["model"], theirs["model"], "model")
    exchange.check_supported(ours)
    distance = theirs["@variables"].get("min_nbor_dist")
    if distance is not None:
        np.testing.assert_allclose(ours["@variables"]["min_nbor_dist"], distance, rtol=1e-6)  # kept as float32


def test_convert_backend_prints_what_it_found(tmp_path, caplog):
    with caplog.at_level("INFO", logger="deepmd.exchange"):
        for name in ("hybrid", "dpa2", "polar_diag"):
            arguments = argparse.Namespace(
                INPUT=str(DATA / "checkpoints" / f"{name}.pt"), OUTPUT=str(tmp_path / "m.dp")
            )
            exchange.main(arguments)
    text = "\n".join(caplog.messages)
    for words in ("model type      : standard", "type map        : O H", "descriptor      : hybrid", "se_r", "sel ",
                  "repformer       : rcut", "predicts        : polar, 16 outputs", "numbers stored"):  # fmt: skip
        assert words in text, words
    assert exchange.read_tree(tmp_path / "m.dp")["model"]["fitting"]["type"] == "polar"


def test_convert_backend_makes_a_model_that_predicts_as_the_peer(tmp_path, compiled):
    from deepmd.infer import DeepPot

    exchange.main(argparse.Namespace(INPUT=str(DATA / "checkpoints" / "att2.pt"), OUTPUT=str(tmp_path / "graph.pth")))
    peer = np.load(DATA / "peer" / "att2.npz")
    types = peer["molecule.atype"]
    energy, forces, _ = DeepPot(tmp_path / "graph.pth").eval(peer["molecule.coord"], None, types)
    np.testing.assert_allclose(energy[0], peer["molecule.energy"][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces[0].ravel(), peer["molecule.force"][0].ravel(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["init_model", "finetune"])
def test_training_starts_from_it(kind):
    path = DATA / "checkpoints" / "hybrid.pt"
    tree = foreign_checkpoint.read_tree(path)
    model = build(copy.deepcopy(tree["model_def_script"]))
    assert start.load_weights(Origin(kind, str(path)), model) is None
    expected = deserialize(tree).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="--init-model"):
        start.load_weights(Origin("restart", str(path)), model)


def test_one_of_several_tasks(tmp_path):
    for head, name in (("water", "ser"), ("metal", "fparam")):
        ours, theirs = foreign_checkpoint.read_tree(MULTI, head), exchange.read_tree(DATA / "peer" / f"{name}.dp")
        compare(ours["model"], theirs["model"], "model")
    exchange.main(argparse.Namespace(INPUT=str(MULTI), OUTPUT=str(tmp_path / "m.dp"), head="metal"))
    assert exchange.read_tree(tmp_path / "m.dp")["model"]["fitting"]["numb_fparam"] == 1
    for kind, branch, expected in (("init_model", "metal", 1), ("finetune", "metal", 1), ("finetune", "", 0)):
        origin = Origin(kind, str(MULTI), branch)
        assert start.read(origin)[0].facts().dim_fparam == expected
        assert origin.new_fitting == (branch == "")
    for head in ("gas", None):
        with pytest.raises(ModelError, match="expected one of its tasks water, metal"):
            foreign_checkpoint.read_tree(MULTI, head)
    with pytest.raises(ModelError, match="a single task"):
        exchange.load_tree(DATA / "checkpoints" / "fparam.pt", "gas")


def changed(tmp_path, change, name="set_tebd"):
    payload = torch.load(DATA / "checkpoints" / f"{name}.pt", weights_only=True)
    change(payload["model"])
    torch.save(payload, tmp_path / "changed.pt")
    return tmp_path / "changed.pt"


BLOCK = "model.Default.atomic_model.descriptor.se_ttebd"


def section_of(state):
    return state["_extra_state"]["model_params"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(f"{BLOCK}.mean"), "no parameter 'atomic_model.descriptor.se_ttebd.mean'"),
        (lambda s: s.update({f"{BLOCK}.gate": torch.ones(2)}), "the parameter 'atomic_model.descriptor.se_ttebd.gate'"),
        (lambda s: s.update({f"{BLOCK}.compress_data.0": torch.ones(2)}), "a compressed descriptor"),
        (lambda s: s.update({f"{BLOCK}.mean": torch.ones(3)}), r"has shape \(3,\)"),
        (lambda s: section_of(s).update(model_dict={"a": {}, "b": {}}), "no head, expected one of its tasks a, b"),
        (lambda s: section_of(s).update(use_srtab="table"), "type 'use_srtab' are not read"),
        (lambda s: section_of(s)["descriptor"].update(type="dpa4"), "does not run here.*dpa4"),
        (lambda s: s.pop("_extra_state"), "no checkpoint of DeePMD-kit"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        foreign_checkpoint.read_tree(changed(tmp_path, change))


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_no_code_of_the_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"_extra_state": Harmful()}}, "bad.pt")
    with pytest.raises(ModelError, match="as weights alone"):
        foreign_checkpoint.read_tree("bad.pt")
    assert not Path("harm").exists()
    Path("text.pt").write_text("hello")
    assert not foreign_checkpoint.is_foreign("text.pt")
    with pytest.raises(ModelError, match="no checkpoint of this program"):
        exchange.load_tree("text.pt")
