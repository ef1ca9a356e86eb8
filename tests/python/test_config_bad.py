"""Wrong inputs: each is refused by one sentence with the path, the value, what was expected and a remedy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from deepmd.config import normalise
from deepmd.errors import InputError


class Removed:
    """Stands for a key that is left out; its name in the list of tests is the same in every process."""

    def __repr__(self) -> str:
        return "removed"


REMOVE = Removed()
MODIFIER = {"type": "dipole_charge", "model_name": "dipole.pth", "model_charge_map": [-8], "sys_charge_map": [6, 1]}


def good_input() -> dict[str, Any]:
    """A small input for water in which every section is present."""
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [46, 92],
                "rcut": 6.0,
                "rcut_smth": 0.5,
                "neuron": [25, 50, 100],
                "axis_neuron": 16,
                "seed": 1,
            },
            "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "seed": 1},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.001, "stop_lr": 3.51e-8, "decay_steps": 5000},
        "optimizer": {"type": "Adam"},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1},
        "training": {
            "training_data": {"systems": ["data_0", "data_1"], "batch_size": "auto"},
            "validation_data": {"systems": ["data_3"], "batch_size": 1, "numb_btch": 3},
            "numb_steps": 1000,
            "seed": 10,
            "disp_freq": 100,
            "save_freq": 1000,
        },
    }


def mutated(path: str, value: Any) -> dict[str, Any]:
    """The good input with one key set, or removed."""
    data = good_input()
    *sections, key = path.split("/")
    section = data
    for name in sections:
        section = section.setdefault(name, {})
    if value is REMOVE:
        del section[key]
    else:
        section[key] = value
    return data


D, F, R, L, T = "model/descriptor", "model/fitting_net", "learning_rate", "loss", "training"
TD, VD = f"{T}/training_data", f"{T}/validation_data"

# Path, value, words that the message must hold (the path is always one of them).
BAD = [
    # misspelt and misplaced keys
    (f"{D}/sell", [46, 92], "unknown key", "'sel'"),
    (f"{D}/rcut_smooth", 0.5, "'rcut_smth'"),
    (f"{D}/neurons", [25, 50], "'neuron'"),
    (f"{D}/Sel", [46, 92], "'sel'"),
    (f"{F}/neuron_", [240], "'neuron'"),
    (f"{L}/start_perf_e", 0.02, "'start_pref_e'"),
    (f"{R}/start_Lr", 0.001, "'start_lr'"),
    (f"{R}/numb_steps", 10, "belongs to training"),
    (f"{T}/start_lr", 0.001, "belongs to learning_rate"),
    (f"{T}/systems_", "x", "'systems'", "training/training_data"),
    ("modle", {}, "'model'"),
    ("numb_steps", 100, "belongs to training"),
    (f"{R}/decay_phase_ratio", 0.1, "belongs to learning_rate of type 'wsd'"),
    (f"{VD}/numb_bach", 2, "'numb_batch'"),
    ("optimizer/xyzzy", 0.9, "known keys", "adam_beta1"),
    # missing keys
    ("model", REMOVE, "nothing", "a section"),
    ("training", REMOVE, "nothing", "a section"),
    (R, REMOVE, "nothing", "a section"),
    (D, REMOVE, "nothing", "a section"),
    (F, REMOVE, "nothing", "a section"),
    ("model/type_map", REMOVE, "nothing", "a list of strings"),
    (f"{D}/type", REMOVE, "nothing", "se_e2_a"),
    (f"{R}/start_lr", REMOVE, "nothing", "a number", "0.001"),
    (TD, REMOVE, "nothing", "a section"),
    (f"{TD}/systems", REMOVE, "nothing", "a list of strings"),
    (f"{T}/numb_steps", REMOVE, "nothing", "numb_epoch"),
    # wrong types
    ("model", [], "a section"),
    ("model/type_map", "O H", "a list of strings"),
    ("model/type_map", ["O", False], "type_map[1]", "false", "quotes"),
    (f"{D}/rcut", "6.0", "'6.0'", "a number", "without quotes"),
    (f"{D}/rcut", True, "true", "a number"),
    (f"{D}/rcut", None, "null", "a number"),
    (f"{D}/rcut", float("nan"), "NaN", "a number"),
    (f"{D}/sel", 138, "138", "a list of integers"),
    (f"{D}/sel", [46, 92.5], "sel[1]", "92.5", "an integer"),
    (f"{D}/sel", [46, "92"], "sel[1]", "'92'", "without quotes"),
    (f"{D}/neuron", 25, "25", "a list of integers", "[25]"),
    (f"{D}/resnet_dt", 1, "1", "true or false"),
    (f"{D}/resnet_dt", "true", "'true'", "without quotes"),
    (f"{D}/seed", 1.5, "1.5", "an integer or null"),
    (f"{T}/numb_steps", 1e6, "1000000.0", "an integer", "write 1000000"),
    (f"{T}/numb_steps", True, "true", "an integer"),
    (f"{TD}/systems", [1], "systems[0]", "1", "a string"),
    (f"{L}/start_pref_e", [0.02], "[0.02]", "a number"),
    (T, "fast", "'fast'", "a section"),
    # values out of range
    ("model/type_map", [], "at least one name"),
    ("model/type_map", ["O", "O"], "type_map[1]", "each name once"),
    ("model/type_map", ["O", "H 2"], "type_map[1]", "without blanks"),
    ("model/data_stat_nbatch", 0, "0", "1 or more"),
    ("model/data_stat_protect", 0.0, "a positive number"),
    ("model/pair_exclude_types", [[0, 2]], "[0, 2]", "0 to 1"),
    ("model/pair_exclude_types", [[0]], "[0]", "a pair"),
    ("model/atom_exclude_types", [-1], "-1", "0 to 1"),
    ("model/preset_out_bias", {"energy": [1.0]}, "2 entries"),
    ("model/preset_out_bias", {"energi": [1.0, None]}, "preset_out_bias/energi", "'energy'"),
    (f"{D}/rcut", -6.0, "-6.0", "positive"),
    (f"{D}/rcut_smth", 6.0, "6.0", "less than rcut (6.0)"),
    (f"{D}/rcut_smth", -0.1, "-0.1", "from 0"),
    (f"{D}/sel", [46], "[46]", "2 numbers", "type_map O, H"),
    (f"{D}/sel", [46, -92], "sel[1]", "-92", "0 or more"),
    (f"{D}/sel", [0, 0], "at least one neighbour"),
    (f"{D}/sel", "automatic", "'automatic'", "auto:factor"),
    (f"{D}/sel", "auto:0.5", "'auto:0.5'", "1 or more"),
    (f"{D}/neuron", [], "at least one layer"),
    (f"{D}/neuron", [25, 0], "neuron[1]", "positive"),
    (f"{D}/axis_neuron", 200, "200", "1 to the last width of neuron (100)"),
    (f"{D}/activation_function", "tahn", "'tahn'", "did you mean 'tanh'"),
    (f"{D}/activation_function", "silut:-1", "'silut:-1'", "positive threshold"),
    (f"{D}/precision", "double", "'double'", "float64"),
    (f"{D}/precision", "float46", "'float46'", "did you mean 'float64'"),
    (f"{D}/exclude_types", [[0, 5]], "[0, 5]", "0 to 1"),
    (f"{D}/env_protection", -1.0, "0 or more"),
    (f"{D}/seed", -1, "-1", "from 0"),
    (f"{F}/numb_fparam", -1, "-1", "0 or more"),
    (f"{F}/default_fparam", [1.0], "[1.0]", "numb_fparam is 0"),
    (f"{F}/trainable", [True, False], "[true, false]", "4 of them"),
    (f"{F}/atom_ener", [1.0], "[1.0]", "2 entries"),
    (f"{F}/rcond", -1e-3, "-0.001", "positive"),
    (f"{R}/start_lr", -0.001, "-0.001", "positive"),
    (f"{R}/stop_lr", 0.1, "0.1", "start_lr (0.001)"),
    (f"{R}/stop_lr_ratio", 0.1, "one of stop_lr and stop_lr_ratio", "keep one"),
    (f"{R}/decay_steps", 0, "1 or more"),
    (f"{R}/decay_rate", 1.5, "1.5", "up to 1"),
    (f"{R}/warmup_steps", 1000, "1000", "fewer steps than training/numb_steps"),
    (f"{R}/warmup_start_factor", 2.0, "from 0 to 1"),
    (f"{R}/scale_by_worker", "lin", "'lin'", "linear"),
    (f"{R}/type", "expo", "'expo'", "'exp'"),
    ("optimizer/type", "adam", "'adam'", "'Adam'"),
    ("optimizer/adam_beta1", 1.0, "less than 1"),
    ("optimizer/weight_decay", -1.0, "0 or more"),
    (f"{L}/start_pref_f", -1, "-1", "0 or more"),
    (f"{L}/loss_func", "rmse", "'rmse'", "'mse'"),
    (f"{L}/relative_f", 0.0, "positive force"),
    (f"{L}/huber_delta", [0.1, 0.2], "[0.1, 0.2]", "three"),
    (f"{L}/f_use_norm", True, "loss_func 'mae'"),
    (f"{T}/numb_epoch", 10, "one of numb_epoch and numb_steps", "keep one"),
    (f"{T}/stop_batch", 10, "numb_steps", "mean the same"),
    (f"{T}/numb_steps", -1, "-1", "0 or more"),
    (f"{T}/disp_freq", 0, "1 or more"),
    (f"{T}/save_ckpt", "", "a file name"),
    (f"{T}/gradient_max_norm", -1.0, "null, 0 or a positive"),
    (f"{TD}/systems", [], "a list of paths"),
    (f"{TD}/systems", ["a", " "], "systems[1]", "path of a data folder"),
    (f"{TD}/rglob_patterns", ["*"], "systems is a list"),
    (f"{TD}/batch_size", 0, "positive number of frames"),
    (f"{TD}/batch_size", [1], "[1]", "one entry per system"),
    (f"{TD}/batch_size", [1, 0], "batch_size[1]", "positive"),
    (f"{TD}/batch_size", "automatic", "'automatic'", "'auto:N'"),
    (f"{TD}/batch_size", "auto:-3", "'auto:-3'", "N is a positive integer"),
    (f"{TD}/batch_size", "mixed:", "'mixed:'", "'mixed:N'"),
    (f"{TD}/auto_prob", "prob_size", "'prob_size'", "'prob_sys_size'"),
    (f"{TD}/auto_prob", "prob_sys_size;0:2", "'0:2'", "start:end:weight"),
    (f"{TD}/auto_prob", "prob_sys_size;0:2:0.5;1:3:0.5", "do not overlap"),
    (f"{TD}/auto_prob", "prob_uniform;0:1:1", "prob_sys_size only"),
    (f"{TD}/sys_probs", [0.5, 0.6], "add up to 1", "1.1"),
    (f"{TD}/sys_probs", [1.0], "one entry per system"),
    (f"{VD}/numb_btch", 0, "1 or more"),
    # documented, not built
    (f"{D}/type", "dpa4", "documented descriptor that this version does not run yet", "available: se_e2_a"),
    (f"{D}/type", "se_e2_b", "'se_e2_b'", "did you mean 'se_e2_a'"),
    (f"{F}/type", "population", "documented fitting net", "available: ener"),
    (f"{L}/type", "population", "documented loss"),
    (f"{L}/type", "dens", "documented loss"),
    ("model/type", "dpa4", "documented model type"),
    ("optimizer/type", "LKF", "documented optimizer", "Adam, AdamW"),
    (f"{D}/precision", "float16", "documented precision", "float32"),
    ("model/modifier", {"type": "dipole_charge"}, "model/modifier/model_name", "add this key"),
    ("model/modifier", {"type": "dipole"}, "'dipole'", "one of dipole_charge"),
    ("model/modifier", {**MODIFIER, "sys_charge_map": [6.0]}, "model/modifier/sys_charge_map", "one for each type"),
    ("model/modifier", {**MODIFIER, "ewald_h": 0.0}, "model/modifier/ewald_h", "a positive number in Angstrom"),
    ("model/type_embedding", {}, "type embedding"),
    ("nvnmd", {"enable": True}, "NVNMD"),
    (f"{T}/mixed_precision", {"compute_prec": "float16"}, "mixed-precision", "'float32'"),
    (f"{T}/data_dict", {}, "multi-task", "model/model_dict"),
    (f"{T}/tensorboard", True, "true", "not built", "false"),
    (f"{T}/enable_compile", True, "not built", "false"),
    (f"{T}/zero_stage", 1, "not built", "expected 0"),
    (f"{T}/ckpt_keep_ratio", 1.5, "1.5", "between 0 and 1"),
    (f"{F}/dim_case_embd", 2, "not built", "expected 0"),
    ("validating/full_validation", True, "not built", "false"),
    (f"{TD}/min_pair_dist", 0.5, "not built", "expected 0"),
]

# Mistakes that need more than one key.
BAD_PAIRS = [
    ({"model/modifier": MODIFIER, f"{L}/start_pref_ae": 1.0}, f"{L}/start_pref_ae", "0, as model/modifier"),
    ({"model/use_srtab": "zbl.txt"}, "model/sw_rmin", "as use_srtab is given"),
    ({f"{L}/{side}_pref_{term}": 0 for side in ("start", "limit") for term in "ef"}, "loss", "above 0"),
    ({L: {"type": "dos"}}, f"{L}/type", "'ener', as model/fitting_net/type is 'ener'"),
    ({f"{L}/start_pref_gf": 1.0}, f"{L}/numb_generalized_coord", "above 0"),
    ({f"{F}/type": "property", f"{L}/type": "property"}, f"{F}/property_name", "add this key"),
    ({f"{L}/use_huber": True, f"{L}/relative_f": 1.0}, f"{L}/use_huber", "relative_f"),
    ({f"{L}/use_huber": True, f"{L}/start_pref_pf": 1.0}, f"{L}/use_huber", "start_pref_pf"),
    ({f"{R}/warmup_steps": 10, f"{R}/warmup_ratio": 0.1}, f"{R}/warmup_ratio", "keep one"),
    ({f"{F}/n_neuron": [10], f"{F}/neuron": [20]}, f"{F}/n_neuron", "mean the same"),
    ({R: {"type": "wsd", "start_lr": 1e-3, "decay_phase_ratio": 0.0}}, f"{R}/decay_phase_ratio", "above 0"),
    ({R: {"type": "wsd", "start_lr": 1e-3, "decay_type": "exp"}}, f"{R}/decay_type", "inverse_linear"),
    ({R: {"type": "cosine", "start_lr": 1e-3, "decay_steps": 5}}, f"{R}/decay_steps", "of type 'exp'"),
    ({R: {"start_lr": 1e-9}}, f"{R}/stop_lr", "start_lr (1e-09)"),
    ({f"{F}/numb_fparam": 2, f"{F}/default_fparam": [1.0]}, f"{F}/default_fparam", "2 numbers"),
]


def check_sentence(message: str, words: tuple[str, ...]) -> None:
    """One line with all the words, and none of the schema library's own."""
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    for foreign in ("dargs", "typeguard", "at location", "strict mode", "NoneType", "<class"):
        assert foreign not in message
    if "that this version does not run yet; available: " not in message:
        assert ": got " in message and ", expected " in message


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[0]}={case[1]!r}"[:60])
def test_one_wrong_key(case: tuple[Any, ...]) -> None:
    path, value, *words = case
    with pytest.raises(InputError) as caught:
        normalise(mutated(path, value))
    message = str(caught.value)
    check_sentence(message, tuple(words))
    assert message.startswith(path)


@pytest.mark.parametrize("case", BAD_PAIRS, ids=lambda case: case[1])
def test_keys_that_do_not_go_together(case: tuple[dict[str, Any], str, str]) -> None:
    changes, path, word = case
    data = good_input()
    for where, value in changes.items():
        *sections, key = where.split("/")
        section = data
        for name in sections:
            section = section[name]
        section[key] = value
    with pytest.raises(InputError) as caught:
        normalise(data)
    check_sentence(str(caught.value), (path + ":", word))


def test_the_good_input_is_good() -> None:
    before = good_input()
    data = copy.deepcopy(before)
    normalise(data)
    assert data == before, "normalise must not change its argument"


def test_enough_cases() -> None:
    assert len(BAD) + len(BAD_PAIRS) >= 60
