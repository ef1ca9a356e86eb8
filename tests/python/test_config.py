"""Good inputs: current ones, old ones, YAML; and the documents made from the schema."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from deepmd import config
from deepmd.config import doc, load_input, normalise, train_schema, train_schema_multi, upgrade
from deepmd.errors import InputError
from test_config_bad import good_input

PEER = ("sea", "sea_exclude", "sea_f32", "sea_oneside_dt", "pair_exclude", "fparam", "aparam")

# An input of version 1.x, with the repeated comments that were common then.
INPUT_V1 = """{
    "_comment": " model parameters",
    "model": {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_a", "sel": [46, 92], "rcut_smth": 0.50, "rcut": 6.00, "neuron": [25, 50, 100],
                       "resnet_dt": false, "n_axis_neuron": 16, "seed": 1, "_comment": " that's all"},
        "fitting_net": {"n_neuron": [240, 240, 240], "resnet_dt": true, "seed": 1, "_comment": " that's all"},
        "_comment": " that's all"
    },
    "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 0.001, "stop_lr": 3.51e-8},
    "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
    "training": {
        "systems": ["../data/"],
        "set_prefix": "set",
        "stop_batch": 1000000,
        "batch_size": 1,
        "seed": 1,
        "_comment": " display and restart",
        "_comment": " frequencies counted in batch",
        "disp_file": "lcurve.out",
        "disp_freq": 100,
        "numb_test": 10,
        "save_freq": 1000,
        "save_ckpt": "model.ckpt",
        "load_ckpt": "model.ckpt",
        "disp_training": true,
        "time_training": true,
        "tensorboard": false,
        "tensorboard_log_dir": "log",
        "profiling": false,
        "profiling_file": "timeline.json",
        "_comment": "that's all"
    },
    "_comment": "that's all"
}"""

INPUT_V0 = {
    "_comment": " model parameters",
    "use_smooth": True,
    "type_map": ["O", "H"],
    "sel_a": [46, 92],
    "rcut_smth": 5.80,
    "rcut": 6.00,
    "filter_neuron": [25, 50, 100],
    "filter_resnet_dt": False,
    "n_axis_neuron": 16,
    "n_neuron": [240, 240, 240],
    "resnet_dt": True,
    "coord_norm": True,
    "type_fitting_net": False,
    "systems": ["../data/"],
    "set_prefix": "set",
    "stop_batch": 1000000,
    "batch_size": [4],
    "start_lr": 0.001,
    "decay_steps": 5000,
    "decay_rate": 0.95,
    "start_pref_e": 0.02,
    "limit_pref_e": 1,
    "start_pref_f": 1000,
    "limit_pref_f": 1,
    "start_pref_v": 0,
    "limit_pref_v": 0,
    "seed": 1,
    "disp_file": "lcurve.out",
    "disp_freq": 100,
    "numb_test": 10,
    "save_freq": 1000,
    "save_ckpt": "model.ckpt",
    "load_ckpt": "model.ckpt",
    "disp_training": True,
    "time_training": True,
}


# ---------------------------------------------------------------------------------------------------- good inputs


@pytest.mark.parametrize("name", PEER)
def test_inputs_of_the_peer(name: str, shared) -> None:
    raw = load_input(shared("..", "peer", f"{name}.json"))
    current, changes = upgrade(raw)
    assert (current, changes) == (raw, []), "an input of today needs no upgrade"
    full = normalise(current)
    assert normalise(full) == full
    for section, keys in raw.items():
        for key, value in keys.items():
            kept = full[section][key]
            assert (kept | value if isinstance(value, dict) else value) == kept


def test_defaults_are_the_documented_ones() -> None:
    full = normalise(
        {
            "model": {"type_map": ["O"], "descriptor": {"type": "se_e2_a"}, "fitting_net": {}},
            "learning_rate": {"start_lr": 0.001},
            "training": {"training_data": {"systems": "data"}, "numb_steps": 0},
        }
    )
    assert list(full) == ["model", "learning_rate", "optimizer", "loss", "training"]
    descriptor = full["model"]["descriptor"]
    assert (descriptor["sel"], descriptor["rcut"], descriptor["rcut_smth"]) == ("auto", 6.0, 0.5)
    assert (descriptor["neuron"], descriptor["axis_neuron"], descriptor["type_one_side"]) == ([10, 20, 40], 4, False)
    fitting = full["model"]["fitting_net"]
    assert (fitting["type"], fitting["neuron"], fitting["resnet_dt"]) == ("ener", [120, 120, 120], True)
    rate = full["learning_rate"]
    assert (rate["type"], rate["stop_lr"], rate["stop_lr_ratio"], rate["decay_steps"]) == ("exp", 5e-8, None, 5000)
    assert full["optimizer"] == {"type": "Adam", "adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0}
    loss = full["loss"]
    assert [loss[f"{s}_pref_{k}"] for k in "efv" for s in ("start", "limit")] == [0.02, 1.0, 1000, 1.0, 0.0, 0.0]
    training = full["training"]
    assert (training["disp_file"], training["save_ckpt"], training["max_ckpt_keep"]) == ("lcurve.out", "model.ckpt", 5)
    assert (training["training_data"]["batch_size"], training["validation_data"]) == ("auto", None)
    assert "seed" not in training and "stop_batch" not in training


ACCEPTED: list[tuple[str, Any]] = [
    ("model/descriptor/sel", "auto"),
    ("model/descriptor/sel", "auto:1.2"),
    ("model/descriptor/sel", [0, 92]),
    ("model/descriptor/seed", None),
    ("model/descriptor/activation_function", "GELU"),
    ("model/descriptor/activation_function", "silut:3.0"),
    ("model/descriptor/activation_function", "None"),
    ("model/descriptor/exclude_types", [[0, 1], [1, 1]]),
    ("model/pair_exclude_types", [[1, 0]]),
    ("model/atom_exclude_types", [1]),
    ("model/preset_out_bias", {"energy": [-93.0, None]}),
    ("model/info", {"author": "me", "_private": 1}),
    ("model/fitting_net/trainable", [True, False, True, True]),
    ("model/fitting_net/atom_ener", [None, -0.5]),
    ("model/fitting_net/rcond", 1e-3),
    ("learning_rate", {"type": "cosine", "start_lr": 1e-3, "warmup_ratio": 0.1}),
    ("learning_rate", {"type": "wsd", "start_lr": 1e-3, "stop_lr_ratio": 0.01, "decay_type": "linear"}),
    ("learning_rate/decay_rate", 0.95),
    ("optimizer", {"type": "AdamW", "weight_decay": 0.01}),
    ("loss/loss_func", "mae"),
    ("loss", {"use_huber": True, "huber_delta": [0.01, 0.02, 0.03], "f_use_norm": True}),
    ("loss", {"type": "ener_hess", "start_pref_h": 0}),
    ("training/training_data/batch_size", [1, 2]),
    ("training/training_data/batch_size", "max:64"),
    ("training/training_data/batch_size", "filter:64"),
    ("training/training_data/auto_prob", "prob_sys_size; 0:1:0.6; 1:2:0.4"),
    ("training/training_data/auto_prob_style", "prob_uniform"),
    ("training/training_data/sys_probs", [0.5, -1]),
    ("training/training_data/sys_weights", [0.25, 0.75]),
    ("training/training_data/systems", "data"),
    ("training/validation_data", None),
    ("training/gradient_max_norm", 5),
    ("training/stat_file", "stat.hdf5"),
    ("training/save_dir", "ckpt"),
    ("training/max_ckpt_keep", 0),
    ("training/tensorboard_log_dir", "elsewhere"),
    ("validating", {"full_validation": False}),
    ("$schema", "https://example.org/schema.json"),
    ("_comment", {"anything": [1, {"at": "all"}]}),
]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: f"{case[0]}={case[1]!r}"[:60])
def test_accepted_and_idempotent(case: tuple[str, Any]) -> None:
    data = good_input()
    *sections, key = case[0].split("/")
    section = data
    for name in sections:
        section = section[name]
    section[key] = case[1]
    full = normalise(data)
    assert normalise(full) == full
    assert json.loads(json.dumps(full)) == full


def test_aliases_and_comments() -> None:
    data = good_input()
    data["training"]["num_steps"] = data["training"].pop("numb_steps")
    data["training"]["training_data"]["_why"] = "because"
    data["model"]["descriptor"]["type"] = "se_a"
    data["training"]["validation_data"]["numb_batch"] = data["training"]["validation_data"].pop("numb_btch")
    assert normalise(data) == normalise(good_input())


def test_epochs_in_place_of_steps() -> None:
    data = good_input()
    del data["training"]["numb_steps"]
    data["training"]["num_epochs"] = 2.5
    full = normalise(data)
    assert full["training"]["numb_epoch"] == 2.5 and "numb_steps" not in full["training"]


# ---------------------------------------------------------------------------------------------------- old inputs


def test_version_1(tmp_path: Path) -> None:
    path = tmp_path / "input.json"
    path.write_text(INPUT_V1)
    raw = load_input(path)
    before = copy.deepcopy(raw)
    current, changes = upgrade(raw)
    assert raw == before
    assert [change.split(" ")[0] for change in changes] == [
        "training/systems,",
        "training/training_data/set_prefix",
        "training/numb_test",
        "training/load_ckpt",
    ]
    assert current["training"]["training_data"] == {"systems": ["../data/"], "batch_size": 1}
    full = normalise(current)
    assert full["training"]["numb_steps"] == 1000000
    assert full["model"]["descriptor"]["axis_neuron"] == 16 and full["model"]["descriptor"]["type"] == "se_e2_a"
    assert upgrade(current) == (current, [])


def test_version_0() -> None:
    current, changes = upgrade(INPUT_V0)
    assert any("version 0.x" in change for change in changes)
    full = normalise(current)
    descriptor, fitting = full["model"]["descriptor"], full["model"]["fitting_net"]
    assert (descriptor["sel"], descriptor["neuron"], descriptor["seed"]) == ([46, 92], [25, 50, 100], 1)
    assert (descriptor["axis_neuron"], descriptor["resnet_dt"], descriptor["rcut_smth"]) == (16, False, 5.8)
    assert (fitting["neuron"], fitting["resnet_dt"]) == ([240, 240, 240], True)
    assert (full["learning_rate"]["decay_rate"], full["learning_rate"]["stop_lr"]) == (0.95, 1e-8)
    assert (full["training"]["numb_steps"], full["training"]["training_data"]["batch_size"]) == (1000000, [4])
    assert full["loss"]["start_pref_f"] == 1000


def test_version_0_of_the_local_frame() -> None:
    smooth = ("rcut_smth", "filter_neuron", "filter_resnet_dt", "n_axis_neuron")
    raw = {key: value for key, value in INPUT_V0.items() if key not in smooth}
    raw |= {"use_smooth": False, "sel_r": [0, 0], "axis_rule": [0] * 12}
    section = normalise(upgrade(raw)[0])["model"]
    assert section["descriptor"]["type"] == "loc_frame" and section["descriptor"]["axis_rule"] == [0] * 12
    assert "seed" not in section["descriptor"]


def test_version_0_keeps_unknown_keys_for_the_check() -> None:
    with pytest.raises(InputError, match="sel_aa: got an unknown key"):
        normalise(upgrade({**INPUT_V0, "sel_aa": [1]})[0])


def test_old_inputs_keep_the_defaults_of_their_time() -> None:
    raw = good_input()
    raw["training"]["training_data"]["set_prefix"] = "set"
    raw["learning_rate"] = {"type": "exp"}
    current, changes = upgrade(raw)
    assert (current["learning_rate"]["start_lr"], current["learning_rate"]["stop_lr"]) == (0.001, 1e-8)
    assert len(changes) == 3


def test_optimizer_and_warmup_move_out_of_training() -> None:
    raw = good_input()
    del raw["optimizer"]
    raw["training"] |= {"opt_type": "AdamW", "weight_decay": 0.01, "warmup_steps": 100, "warmup_start_factor": 0.1}
    current, changes = upgrade(raw)
    assert len(changes) == 2
    full = normalise(current)
    assert (full["optimizer"]["type"], full["optimizer"]["weight_decay"]) == ("AdamW", 0.01)
    assert (full["learning_rate"]["warmup_steps"], full["learning_rate"]["warmup_start_factor"]) == (100, 0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"opt_type": "AdamW"}, ["training/opt_type", "'AdamW'", "optimizer", "'Adam'"]),
        ({"systems": ["a"]}, ["training/systems", '["a"]', "training/training_data"]),
        ({"set_prefix": "frames"}, ["training/set_prefix", "'frames'", "'set'", "rename"]),
    ],
)
def test_upgrades_that_cannot_be_made(changes: dict[str, Any], words: list[str]) -> None:
    raw = good_input()
    raw["training"] |= changes
    if "set_prefix" in changes:
        raw["training"]["systems"] = raw["training"].pop("training_data")["systems"]
        words = [words[0].replace("training/", "training/training_data/"), *words[1:]]
    with pytest.raises(InputError) as caught:
        upgrade(raw)
    for word in words:
        assert word in str(caught.value)


def test_the_kalman_filter_is_moved_and_refused() -> None:
    raw = good_input()
    del raw["optimizer"]
    raw["training"] |= {"opt_type": "LKF", "kf_blocksize": 1024}
    with pytest.raises(InputError, match="optimizer/type: 'LKF' is a documented optimizer"):
        normalise(upgrade(raw)[0])


# ---------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml"])
def test_reading(suffix: str, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = tmp_path / f"input{suffix}"
    path.write_text(json.dumps(good_input()) if suffix == ".json" else yaml.safe_dump(good_input()))
    assert load_input(path) == load_input(str(path)) == good_input()


def test_yaml_numbers_and_merges(tmp_path: Path) -> None:
    path = tmp_path / "input.yaml"
    path.write_text("a: &a {lr: 1e-3, n: 5}\nb: {<<: *a, n: 6}\nname: 1e\n")
    assert load_input(path) == {"a": {"lr": 1e-3, "n": 5}, "b": {"lr": 1e-3, "n": 6}, "name": "1e"}


BROKEN = [
    ("a.json", '{"model": {"rcut": 6.0, "rcut": 7.0}}', ["'rcut'", "twice", "6.0", "7.0"]),
    ("a.json", '{\n"m": 1,\n"m": 2\n}', ["lines 2 and 3"]),
    ("a.json", '{\n "model": {\n}', ["line 3", "ends too early"]),
    ("a.json", '{\n "a": 1,\n}', ["line", "a comma too many"]),
    ("a.json", '{\n "a": [1, 2,],\n "b": 1}', ["line 2", "a comma too many"]),
    ("a.json", '{\n "a": 1\n "b": 2}', ["line 3, column 2", "a comma"]),
    ("a.json", '{\n // note\n "b": 2}', ["line 2", "no comments", "_comment"]),
    ("a.json", "{'a': 1}", ["line 1, column 2", "double quotes"]),
    ("a.json", '{"a": True}', ["lower case"]),
    ("a.json", '{"a": NaN}', ["NaN", "finite"]),
    ("a.json", '{"a": 1} }', ["line 1", "too early"]),
    ("a.json", "", ["empty"]),
    ("a.json", "[1, 2]", ["[1, 2]", "top level"]),
    ("a.json", "[" * 100000, ["nested"]),
    ("a.json", '{"a": ' + "1" * 5000 + "}", ["too long"]),
    ("a.json", b"\xff\xfe{}", ["byte 0", "UTF-8"]),
    ("a.toml", "a = 1", ["'.toml'", ".json, .yaml or .yml"]),
    ("a.yaml", "model:\n  rcut: 6\n  rcut: 7\n", ["'rcut'", "lines 2 and 3"]),
    ("a.yaml", "model: [1, 2\nb: 3\n", ["line 2", "not valid YAML"]),
    ("a.yaml", "a: !!python/object/apply:os.system [ls]\n", ["line 1", "not valid YAML"]),
    ("a.yaml", "a: &a [*a]\n", ["contain each other"]),
    ("a.yaml", "a: \x01\n", ["character"]),
    ("a.yaml", "a: 2024-13-45\n", ["date"]),
    ("a.yaml", "just text\n", ["'just text'", "top level"]),
    ("a.yaml", "? [1, 2]\n: 3\n", ["not valid YAML"]),
    (
        "a.yaml",
        "a: &a [1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n"
        "g: [*f,*f,*f,*f,*f,*f,*f,*f]\n",
        ["repeat"],
    ),
]


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: f"{case[0]} {case[1]!r}"[:40])
def test_files_that_cannot_be_read(case: tuple[str, str | bytes, list[str]], tmp_path: Path) -> None:
    name, content, words = case
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load_input(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for word in words:
        assert word in message


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_input(tmp_path / "input.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_input(tmp_path / "folder.json")


# ---------------------------------------------------------------------------------------------------- robustness

ODD: list[Any] = [None, True, False, 0, -1, 1.5, 10**400, "", "auto", "x" * 300, "a\nb", [], [[]], [None], {}, {"a": 1}]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in items for place in [(value, key), *places(below)]]


@pytest.mark.parametrize("seed", range(300))
def test_odd_values_are_refused_in_words_or_accepted(seed: int) -> None:
    rng = random.Random(seed)
    data = normalise(good_input()) if seed % 2 else good_input()
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(data))
        if rng.random() < 0.2 and isinstance(container, dict):
            container[rng.choice(["", "seed", "type", 7, key])] = rng.choice(ODD)
        else:
            container[key] = copy.deepcopy(rng.choice(ODD))
    try:
        full = normalise(upgrade(data)[0])
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        assert normalise(full) == full


# ---------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize("multi_task", [False, True])
def test_documents(multi_task: bool) -> None:
    schema = json.loads(doc("json_schema", multi_task))
    assert schema["title"] == "input" and "model" in schema["properties"]
    assert {section["name"] for section in json.loads(doc("json", multi_task))} >= {"model", "training"}
    text = doc("rst", multi_task)
    assert "numb_steps" in text and text == doc("rst", multi_task)


def test_unknown_form_of_document() -> None:
    with pytest.raises(InputError, match="expected one of rst, json, json_schema"):
        doc("html")


def test_schema_in_the_form_of_dpgui() -> None:
    from dargs import Argument, ArgumentEncoder

    for schema in (train_schema(), train_schema_multi()):
        assert all(isinstance(argument, Argument) for argument in schema)
        for section in json.loads(json.dumps(schema, cls=ArgumentEncoder)):
            assert section["object"] == "Argument"


def undocumented(argument: Any, path: str) -> list[str]:
    found = [] if argument.doc else [path]
    for field in argument.sub_fields.values():
        found += undocumented(field, f"{path}/{field.name}")
    for variant in argument.sub_variants.values():
        for choice in variant.choice_dict.values():
            found += undocumented(choice, f"{path}[{choice.name}]")
    return found


def test_every_key_has_a_doc_string() -> None:
    assert [path for section in train_schema() for path in undocumented(section, section.name)] == []


def test_built_choices_are_in_the_schema() -> None:
    model = train_schema()[0].sub_variants["type"].choice_dict["standard"]
    assert set(model.sub_fields["descriptor"].sub_variants["type"].choice_dict) == set(
        config.BUILT["model/descriptor/type"]
    )
    assert set(model.sub_fields["fitting_net"].sub_variants["type"].choice_dict) == set(
        config.BUILT["model/fitting_net/type"]
    )
