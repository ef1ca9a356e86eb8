"""Every key of the manuals against our schema: which are built, fixed at one value, upgraded, or refused by name.

    PYTHONPATH=tests python tests/reference/manual_keys.py                       the table, docs/manual-keys.md
    python tests/reference/manual_keys.py collect FILE ...                       the list, tests/data/manual_keys.tsv

The list holds names and values to try only: of the manuals of versions 2.0 and 3.0-alpha (texts with lines that begin
`argument path:`), and of the schemas that `dp doc-train-input --out-type json` of DeePMD-kit 3.2 prints, with and
without `--multi-task`. Each key is put, with its default or a value of its type, into an input that is complete
otherwise, which is upgraded and checked.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIST, PAGE = ROOT / "tests" / "data" / "manual_keys.tsv", ROOT / "docs" / "manual-keys.md"
NESTED = ("models", "qm_model", "qmmm_model", "list", "model_dict", "loss_dict", "data_dict", "learning_rate_dict")
VALUES = {"int": 1, "float": 1.0, "bool": False, "str": "x", "list": [], "dict": {}}
STATES = ("built", "one value", "upgraded", "refused by name", "UNKNOWN")

# --------------------------------------------------------------------------------------------------- the list


def collect(files: list[Path]) -> None:
    """Writes the list: path, versions, value to try."""
    found: dict[str, tuple[list[str], Any]] = {}
    sources: list[tuple[str, Iterator[tuple[str, Any]]]] = []
    for file in files:
        content = file.read_text()
        if file.suffix == ".json":
            sources.append(("3.2", of_schema(json.loads(content))))
            continue
        version = "2.0" if "\\_" in content else "3.0-alpha"
        if "argument path:" in content:
            sources.append((version, of_manual(content)))
    for version, entries in sources:
        for path, value in entries:
            path = re.sub(r"^model/(descriptor|fitting_net)", r"model[standard]/\1", path)
            if re.match(r"model\[dpa4\]/(descriptor|fitting_net)\W", path):
                continue  # as in a standard model
            versions, first = found.setdefault(path, ([], value))
            if version not in versions:
                versions.append(version)
            if first is None and value is not None:
                found[path] = (versions, value)
    rows = [f"{path}\t{','.join(sorted(v))}\t{json.dumps(value)}" for path, (v, value) in sorted(found.items())]
    LIST.write_text("\n".join(rows) + "\n")


def of_schema(arguments: list[dict[str, Any]], path: str = "") -> Iterator[tuple[str, Any]]:
    """Paths of the schema as JSON, aliases of keys and of choices included."""
    for one in arguments:
        value = one.get("default", VALUES.get(one["type"][0].split("[")[0]))
        for name in (one["name"], *one["alias"]):
            yield f"{path}{name}", value
        if one["name"] in NESTED:
            continue
        below = f"{path}{one['name']}"
        yield from of_schema(list(one["sub_fields"].values()), f"{below}/")
        for variant in one["sub_variants"].values():
            for name, choice in variant["choice_dict"].items():
                yield f"{below}[{name}]", None
                yield from of_schema(list(choice["sub_fields"].values()), f"{below}[{name}]/")
            for name in variant.get("choice_alias", {}):
                yield f"{below}[{name}]", None


def of_manual(text: str) -> Iterator[tuple[str, Any]]:
    """Paths of a manual in the form of DeePMD-kit's documentation."""
    text = text.replace("\\", "").replace("`", "")
    for hit in re.finditer(r"argument path: ?(\S+)", text):
        before = text[max(0, hit.start() - 400) : hit.start()]
        kinds = re.findall(r"type: ([^\n]*)", before)
        yield hit[1].strip("*"), of_words(kinds[-1]) if kinds else None
        aliases = re.findall(r"alias(?:es)?: ?([^\n]+)", before.rpartition("type:")[2])
        for name in re.split(r"[,\s*]+", aliases[-1]) if aliases else []:
            if re.fullmatch(r"\w+", name):
                yield f"{hit[1].strip('*').rpartition('/')[0]}/{name}", of_words(kinds[-1]) if kinds else None


def of_words(words: str) -> Any:
    """`int, optional, default: 10` as a value."""
    kind, default = re.match(r"[a-zA-Z]*", words)[0], re.search(r"default: ?(.+)", words)
    if default:
        text = default[1].strip().rstrip("*").split(", alias")[0]
        for one in (text, text.lower(), text.replace("'", '"')):
            try:
                return json.loads(one)
            except ValueError:
                continue
        return text if kind == "str" else VALUES.get(kind)
    return VALUES.get(kind)


# --------------------------------------------------------------------------------------------------- the states

SMOOTH = {"sel": [4, 8]}
RANGE = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 10}
FLOW = {"e_rcut": 4.0, "e_rcut_smth": 0.5, "e_sel": 10, "a_rcut": 3.0, "a_rcut_smth": 0.5, "a_sel": 5}
BASES: dict[str, dict[str, Any]] = {
    "model": {"type_map": ["O", "H"], "descriptor": {"type": "se_e2_a", **SMOOTH}, "fitting_net": {}},
    "model[pairtab]": {"tab_file": "table.txt", "rcut": 6.0},
    "model[frozen]": {"model_file": "graph.pth"},
    "model[linear_ener]": {"models": [{"type": "frozen", "model_file": "graph.pth"}]},
    "model[pairwise_dprc]": {key: {"descriptor": {"type": "se_e2_a", "sel": [4, 8]}, "fitting_net": {}}
                             for key in ("qm_model", "qmmm_model")},
    "modifier[dipole_charge]": {"model_name": "dipole.pth", "model_charge_map": [-8.0], "sys_charge_map": [6.0, 1.0]},
    "descriptor[se_atten]": {"sel": 10},
    "descriptor[dpa1]": {"sel": 10},
    **{f"descriptor[{name}]": {"sel": [4, 8]} for name in ("se_a_tpe", "se_a_ebd", "se_a_ebd_v2", "se_a_tpe_v2")},
    "descriptor[se_atten_v2]": {"sel": 10},
    "descriptor[se_e3_tebd]": {"sel": 10},
    "descriptor[se_a_mask]": {"sel": [4, 8]},
    "descriptor[loc_frame]": {"sel_a": [4, 8], "sel_r": [4, 8]},
    "descriptor[dpa2]": {"repinit": RANGE, "repformer": dict(RANGE)},
    "descriptor[dpa3]": {"repflow": FLOW},
    "descriptor[hybrid]": {"list": [{"type": "se_e2_a", **SMOOTH}]},
    "spin": {"use_spin": [True, False], "virtual_scale": 0.3},
    "fitting_net[property]": {"property_name": "gap"},
    "loss[tensor]": {"pref": 1.0, "pref_atomic": 1.0},
}
MODIFIER = "modifier[dipole_charge]"
WHOLE = {
    "model": BASES["model"],
    "learning_rate": {"start_lr": 0.001},
    "loss": {},
    "training": {"training_data": {"systems": ["data"]}, "numb_steps": 10},
}


TASK = {"type_map": "types", "descriptor": "common", "fitting_net": {}}
TASKS = {
    **{key: value for key, value in WHOLE.items() if key != "loss"},
    "model": {
        "shared_dict": {"types": ["O", "H"], "common": BASES["model"]["descriptor"]},
        "model_dict": {"a": {**TASK, "finetune_head": "b"}, "b": TASK},
    },
    "loss_dict": {"a": {}},
    "training": {"data_dict": dict.fromkeys("ab", {"training_data": {"systems": ["data"]}}), "numb_steps": 10,
                 "model_prob": {"a": 1.0}},
}  # fmt: skip
OLD_TASKS = {
    "model": {"type": "multi", "type_map": ["O", "H"], "descriptor": BASES["model"]["descriptor"],
              "fitting_net_dict": {"a": {}, "b": {}}},
    "learning_rate_dict": dict.fromkeys("ab", WHOLE["learning_rate"]),
    "training": {"data_dict": TASKS["training"]["data_dict"], "numb_steps": 10, "fitting_weight": {"a": 1.0}},
}  # fmt: skip
OF_TASKS = {
    **dict.fromkeys(("model/model_dict", "model/shared_dict", "model/finetune_head", "loss_dict"), TASKS),
    **dict.fromkeys(("training/data_dict", "training/model_prob"), TASKS),
    **dict.fromkeys(("model[multi]/fitting_net_dict", "model[multi]/descriptor", "model[multi]"), OLD_TASKS),
    **dict.fromkeys(("training/fitting_weight", "learning_rate_dict"), OLD_TASKS),
}
"""Keys of inputs with several tasks, of today and of old, and an input that holds them all."""


def input_with(path: str, value: Any) -> dict[str, Any]:
    """A complete input that holds the key; sections of a choice are of that choice."""
    if path in OF_TASKS:
        return copy.deepcopy(OF_TASKS[path])
    if path == "training/num_epoch_dict":
        training = {"data_dict": TASKS["training"]["data_dict"], "num_epoch_dict": {"a": 1, "b": 2}}
        return copy.deepcopy({**TASKS, "training": training})
    data = copy.deepcopy(WHOLE)
    if path.startswith(("loss[ener_spin]", "model/spin")):
        data["model"]["spin"] = dict(BASES["spin"])
        data["loss"] = {"type": "ener_spin"}
    if path in ("model/spin", "model/modifier", "model/modifier/type"):
        data["model"]["modifier"] = None if path == "model/spin" else {"type": "dipole_charge", **BASES[MODIFIER]}
        return data
    if path in ("model/spin/virtual_len", "model/spin/spin_norm"):
        data["model"]["spin"] = {"use_spin": [True, False], "virtual_len": [0.3], "spin_norm": [1.2]}
        return data
    if path in ("model/spin/use_spin", "model/spin/virtual_scale"):
        return data
    if "[se_a_mask]" in path:
        data["model"]["fitting_net"] = {"numb_aparam": 1, "use_aparam_as_mask": True}
        value = [4, 8] if path.endswith("/sel") else value
    if path.endswith("/use_aparam_as_mask") and "[ener]" in path or path == "model/fitting_net/use_aparam_as_mask":
        value = False
    if re.search(r"\[loc_frame\]/(sel_a|sel_r|axis_rule)$", path):
        value = [4, 8] if "sel" in path else []
    section, segments = data, [re.fullmatch(r"(\w+)(?:\[(\w+)\])?", part).groups() for part in path.split("/")]
    for depth, (name, tag) in enumerate(segments):
        last = depth == len(segments) - 1
        if last and tag is None:
            block, _, short = name.partition("_")
            if block in ("repinit", "repformer") and isinstance(section.get(block), dict):
                section[block].pop(short, None)  # a flat key of 3.0-alpha stands instead of the nested one
            if not isinstance(section.get(name), dict) or value != {}:
                section[name] = value
            return data
        below = section.setdefault(name, {})
        if not isinstance(below, dict):
            below = section[name] = {}
        base = BASES.get(f"{name}[{tag}]", SMOOTH if name == "descriptor" else {})
        if tag and tag != "standard":
            if name == "training":  # version 3.0-alpha had the choice of the optimizer there
                section[name]["opt_type"] = tag
                section = section[name]
                continue
            if name == "model":
                below = section[name] = {"type_map": ["O", "H"]}
            below = section[name] = {**(below if name == "model" else {}), "type": tag, **copy.deepcopy(base)}
        section = below
        if name == "list" or name == "models":
            return data
    return data


def outcome(path: str, value: Any) -> tuple[str, list[str]]:
    """The sentence of a refusal, or none, and the changes of the upgrade."""
    from deepmd.config import normalise, upgrade
    from deepmd.errors import InputError

    changes: list[str] = []
    try:
        data, changes = upgrade(input_with(path, value))
        normalise(data)
    except InputError as error:
        return str(error), changes
    return "", changes


def state(path: str, value: Any) -> tuple[str, str]:
    """What becomes of a key: one of STATES, and the words that go with it."""
    from deepmd.config.built import FIXED

    plain = re.sub(r"\[\w+\]", "", path).replace("validation_data", "training_data")
    words, changes = outcome(path, value)
    if "unknown key" in words:
        return "UNKNOWN", words
    if "is a documented" in words or "no such key" in words:
        return "refused by name", reason(words)
    key = plain.rpartition("/")[2]
    about = [change for change in changes if re.search(rf"\b{key}\b", change)]
    if about:
        found = re.search(r"moved to (\S+)|was dropped: (.*)|became (\S+)", about[0])
        place = found[1] or found[3]
        return "upgraded", f"now {place}" if place else f"dropped: {found[2]}"
    if plain in FIXED:
        return "one value", json.dumps(FIXED[plain][0])
    other = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else None
    if other is not None and re.search(r"not built|only \S+ runs", outcome(path, other)[0]):
        return "one value", json.dumps(value)
    return "built", ""


def reason(words: str) -> str:
    """What a refusal is about, in short."""
    found = re.search(r"it asks for (.*?), which", words)
    found = found or re.search(r": ('?[\w ]+'? is a documented [\w -]+?) that", words)
    return found[1] if found else words.split(";")[0]


def rows() -> list[tuple[str, str, str, str]]:
    """Path, versions, state and words of every key."""
    found = []
    for line in LIST.read_text().splitlines():
        path, versions, value = line.split("\t")
        found.append((path, versions, *state(path, json.loads(value))))
    return found


def page(table: list[tuple[str, str, str, str]]) -> str:
    """docs/manual-keys.md: the keys of each section, grouped by state."""
    counts = {one: sum(row[2] == one for row in table) for one in STATES}
    lines = [
        "# Keys of the manuals",
        "",
        "Every key, alias and choice that the manuals of versions 2.0 and 3.0-alpha and the schema of DeePMD-kit",
        "3.2 name, and what `dp train` does with it. A name in brackets is the `type` of the section. The command",
        "`PYTHONPATH=tests python tests/reference/manual_keys.py` makes this page from `tests/data/manual_keys.tsv`",
        "by trying each key in an input.",
        "",
        "- built: read and honoured (accepted, where it cannot matter here); `dp doc-train-input` tells its meaning",
        "- one value: accepted at the value shown, which changes nothing, and refused in words at any other",
        "- upgraded: brought to its present form or dropped, with a line in the log that says so",
        "- refused by name: the sentence says what is asked for and what runs instead",
        "",
        f"In all {len(table)}: {', '.join(f'{counts[one]} {one}' for one in STATES if counts[one])}.",
        "",
    ]
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    for row in table:
        sections.setdefault(row[0].rpartition("/")[0] or "the input itself", []).append(row)
    for section, members in sections.items():
        lines += [f"## {section}" if " " in section else f"## `{section}`", ""]
        for one in STATES:
            group = [row for row in members if row[2] == one]
            if not group:
                continue
            names = [f"`{row[0].rpartition('/')[2]}`" for row in group]
            if one == "built":
                lines.append(f"- built: {', '.join(names)}")
                continue
            by_words: dict[str, list[str]] = {}
            for name, row in zip(names, group, strict=True):
                by_words.setdefault(row[3], []).append(name)
            lines += [f"- {one}: {', '.join(who)} ({words})" for words, who in by_words.items()]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["collect"]:
        collect([Path(one) for one in sys.argv[2:]])
    else:
        table = rows()
        PAGE.write_text(page(table))
        for row in table:
            if row[2] == "UNKNOWN":
                print(row[0], row[1], row[3])
        print({one: sum(row[2] == one for row in table) for one in STATES})
