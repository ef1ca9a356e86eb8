"""Training checkpoints (.pt) of DeePMD-kit's PyTorch backend as neutral trees: weights only, no code of a file runs.

Such a file holds the `model` section of its input and the parameters by name. The section gives a model of ours and
with it a tree; every number of the tree is then taken from the parameter that has its place in DeePMD-kit. A number
without a parameter, or a parameter without a place, is refused by name, so that no model is read in part.
"""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import InputError, ModelError
from deepmd.infer import second

VARIABLES = "@variables"
STATE = "_extra_state"
# Where a descriptor has the parameters of its neighbour sums, by its type in trees.
BLOCKS = {
    "se_e2_a": "sea.",
    "se_r": "",
    "se_e3": "seat.",
    "dpa1": "se_atten.",
    "se_atten_v2": "se_atten.",
    "se_e3_tebd": "se_ttebd.",
    "dpa2": "",
    "dpa3": "",
}
# Names in trees, as regular expressions, and the names of parameters.
NAMES = (
    (r"^repinit_variable/", "repinit."),
    (r"^repinit_three_body_variable/", "repinit_three_body."),
    (r"^repformers_variable/", "repformers."),
    (r"^repflow_variable/", "repflows."),
    (r"embeddings_strip/", "filter_layers_strip."),
    (r"embeddings/", "filter_layers."),
    (r"attention_layers/attention_layers/", "dpa1_attention.attention_layers."),
    (r"rep(?:former|flow)_layers/", "layers."),
    (r"^nets/", "filter_layers."),
    (r"@variables/davg$", "mean"),
    (r"@variables/dstd$", "stddev"),
    (r"@variables/w$", "matrix"),
    (r"@variables/b$", "bias"),
    (r"@variables/", ""),
)
BESIDE_BLOCK = ("type_embedding/", "g1_shape_tranform/", "tebd_transform/")
NOT_STORED = ("scale", "constant_matrix")  # DeePMD-kit makes them from the section
EMPTY = re.compile(r"\.(compress_info|compress_data)\.\d+$|\.type_embd_data$")
LOSS = {"dipole": "tensor", "polar": "tensor", "ener": "ener"}


def is_foreign(path: str | Path) -> bool:
    """Whether a file is a PyTorch archive that is no checkpoint of this program."""
    from deepmd.train.checkpoint import TRAILER

    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return content[:2] == b"PK" and TRAILER not in content[-200:] and b"/data.pkl" in content


def heads(path: str | Path) -> list[str]:
    """The tasks of a checkpoint of several tasks; none of one model."""
    return list(_state(Path(path))[STATE].get("model_params", {}).get("model_dict", {}))


def read_tree(path: str | Path, head: str | None = None) -> dict[str, Any]:
    """The neutral tree of a checkpoint; head: which of several tasks."""
    state = _state(Path(path))
    section, branch = _section(state, path, head)
    tree, known = _template(section, path)
    start = f"model.{branch}."
    parameters = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
    used: set[str] = set()

    def number(where: str, value: np.ndarray) -> np.ndarray:
        key = parameter_of(where, tree)
        found = next((k for k in (key, key.replace(".networks.", "._networks.")) if k in parameters), None)
        if found is None:
            if where.rpartition("/")[2] in NOT_STORED:
                return value
            raise ModelError(f"{path}: the checkpoint has no parameter '{key}', which its model section asks for")
        theirs = parameters[found].numpy()
        if theirs.size != np.size(value):
            raise ModelError(f"{path}: '{found}' has shape {theirs.shape}, expected {np.shape(value)} by the section")
        used.add(found)
        return theirs.reshape(np.shape(value))

    tree = _fill(tree, "", number)
    _check_rest(parameters, used, path)
    distance = parameters.get("min_nbor_dist")
    variables = {"min_nbor_dist": distance.double().numpy()} if distance is not None and float(distance) > 0 else {}
    return {"model": tree, "model_def_script": known, "backend": "PyTorch", VARIABLES: variables}


def parameter_of(where: str, tree: dict[str, Any]) -> str:
    """The name of the parameter that stands at a place of the tree, such as 'descriptor/@variables/davg'."""
    head, _, rest = where.partition("/")
    if head == VARIABLES:
        return f"atomic_model.{rest}"
    prefix, block = "atomic_model.fitting_net.", ""
    if head == "descriptor":
        prefix, descriptor = "atomic_model.descriptor.", tree["descriptor"]
        while descriptor["type"] == "hybrid":
            _, index, rest = rest.split("/", 2)
            prefix, descriptor = f"{prefix}descrpt_list.{index}.", descriptor["list"][int(index)]
        block = "" if rest.startswith(BESIDE_BLOCK) else BLOCKS[descriptor["type"]]
        rest = rest.replace("type_embedding/embedding/", "type_embedding/embedding/embedding_net/")
    for pattern, name in NAMES:
        rest = re.sub(pattern, name, rest)
    return prefix + block + rest.replace("/", ".")


def _fill(tree: Any, where: str, number: Any, inside: bool = False) -> Any:
    """A copy of a tree with every number below `@variables` asked for by its place."""
    if isinstance(tree, dict):
        return {k: _fill(v, f"{where}/{k}" if where else k, number, inside or k == VARIABLES) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_fill(value, f"{where}/{k}", number, inside) for k, value in enumerate(tree)]
    return number(where, tree) if inside and tree is not None else tree


def _state(path: Path) -> dict[str, Any]:
    import torch

    try:
        payload = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:
        words = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: the file cannot be read as weights alone ({words}); expected a checkpoint that dp train of "
            "DeePMD-kit wrote; convert it there with `dp convert-backend model.pt model.dp`",
            "DP_ERROR_FORMAT",
        ) from None
    state = payload.get("model", payload) if isinstance(payload, dict) else {}
    if not (isinstance(state, dict) and isinstance(state.get(STATE), dict)):
        raise ModelError(f"{path}: this is no checkpoint of DeePMD-kit: it has no '{STATE}'", "DP_ERROR_FORMAT")
    return state


def _section(state: dict[str, Any], path: str | Path, head: str | None) -> tuple[dict[str, Any], str]:
    """The model section of a task, and the name under which its parameters stand."""
    section = copy.deepcopy(state[STATE].get("model_params"))
    if not isinstance(section, dict):
        raise ModelError(f"{path}: this is no checkpoint of DeePMD-kit: it has no model section", "DP_ERROR_FORMAT")
    tasks, branch = section.get("model_dict"), "Default"
    if tasks is None and head:
        raise ModelError(f"{path}: got the head '{head}', but the model has a single task; leave it out")
    if tasks is not None:
        if head not in tasks:
            got = f"the head '{head}'" if head else "no head"
            raise ModelError(f"{path}: got {got}, expected one of its tasks {', '.join(tasks)}; name it with --head")
        section, branch = tasks[head], str(head)
        section.pop("finetune_head", None)
    if section.pop("hessian_mode", False):
        second.note(section)
    kind = section.get("type", "standard")
    if kind != "standard" or section.get("use_srtab") or section.get("spin"):
        name = "use_srtab" if section.get("use_srtab") else "spin" if section.get("spin") else kind
        raise ModelError(
            f"{path}: checkpoints of models of type '{name}' are not read, expected a descriptor with a fitting net; "
            "convert it with DeePMD-kit: `dp convert-backend model.pt model.dp`"
        )
    return section, branch


def _template(section: dict[str, Any], path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tree of a model with this section and weights of no meaning, and the section as it is understood here."""
    from deepmd.config import normalise, upgrade
    from deepmd.nn.model import build

    for part in (section.get("descriptor", {}), *section.get("descriptor", {}).get("list", [])):
        if part.get("type") in ("se_e2_r", "se_r"):
            part["type_one_side"] = True  # the only form that its PyTorch backend has, whatever the key says
    for key in ("sel_type", "dipole_type", "pol_type"):
        section.get("fitting_net", {}).pop(key, None)  # its PyTorch backend takes no notice of them
    fit = section.get("fitting_net", {}).get("type", "ener")
    loss = {"type": LOSS.get(fit, fit), **({"pref": 1.0, "pref_atomic": 1.0} if LOSS.get(fit) == "tensor" else {})}
    training = {"training_data": {"systems": "none"}, "numb_steps": 1}
    whole = {"model": section, "learning_rate": {"start_lr": 1e-3}, "loss": loss, "training": training}
    try:
        known = normalise(upgrade(whole)[0])["model"]
        tree = build(copy.deepcopy(known)).serialize()
    except InputError as error:
        raise ModelError(f"{path}: the model of the checkpoint does not run here: {error}") from None
    if not tree["fitting"]["exclude_types"]:
        tree["fitting"]["exclude_types"] = list(tree["atom_exclude_types"])  # as DeePMD-kit hands them down
    return tree, known


def _check_rest(parameters: dict[str, Any], used: set[str], path: str | Path) -> None:
    """What is left over must be copies, empty or known facts."""
    for key, value in parameters.items():
        twin = key.replace("._networks.", ".networks.")
        if key in used or twin in used or key.replace(".networks.", "._networks.") in used or key == "min_nbor_dist":
            continue
        if EMPTY.search(key) and value.numel() == 0:
            continue
        what = "a compressed descriptor" if "compress" in key else f"the parameter '{key}'"
        raise ModelError(f"{path}: the checkpoint holds {what}, which has no place in the model as it is known here")
