"""The backend-free model dictionary ("neutral tree") and the files that hold it: .dp (HDF5) and .yaml.

A tree is a plain dictionary of JSON values with NumPy arrays as leaves under keys named ``@variables``. The layout of
both files is the one that DeePMD-kit 3 writes, so models travel both ways.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from deepmd import __version__
from deepmd.errors import ModelError

log = logging.getLogger(__name__)

VARIABLES = "@variables"
HEADER = ("software", "version", "time")
YAML_SUFFIXES = (".yaml", ".yml")
TREE_SUFFIXES = (".dp", *YAML_SUFFIXES)
VARIABLE_PATH = re.compile(r"^/variable_\d{4,}$")

# What this program can evaluate, with the range of @version that is understood.
MODEL_TYPES = {
    "standard": (1, 2),
    "pairtab": (1, 2),
    "zbl": (1, 2),
    "linear": (1, 3),
    "linear_ener": (1, 3),
    "spin_ener": (1, 2),
    "pairwise_dprc": (1, 1),
}
DESCRIPTOR_TYPES = {
    "se_e2_a": (1, 2),
    "se_r": (1, 2),
    "se_e3": (1, 2),
    "dpa1": (1, 2),
    "se_atten_v2": (1, 2),
    "se_e3_tebd": (1, 1),
    "se_a_tpe": (1, 1),
    "loc_frame": (1, 1),
    "se_a_mask": (1, 1),
    "dpa2": (1, 3),
    "dpa3": (1, 2),
    "hybrid": (1, 1),
}
UNBUILT_FLAGS = {
    "use_econf_tebd": "type vectors from electron configurations",
    "attn_mask": "attention that hides a neighbour from itself",
    "add_chg_spin_ebd": "charge and spin of the frame as input",
}
FITTING_TYPES = {"ener": (1, 4), "dipole": (1, 4), "polar": (1, 5), "dos": (1, 4), "property": (1, 6)}


def map_variables(tree: Any, change: Callable[[Any], Any], inside: bool = False) -> Any:
    """Copies ``tree``; every non-null leaf somewhere under an ``@variables`` key is replaced by ``change(leaf)``.

    Leaves are visited depth first in the order of the keys, which is the order in which files number them.
    """
    if isinstance(tree, dict):
        return {key: map_variables(value, change, inside or key == VARIABLES) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [map_variables(value, change, inside) for value in tree]
    return change(tree) if inside and tree is not None else tree


def flatten(tree: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Takes the arrays out of a tree.

    Returns the tree with ``/variable_0000`` ... in their places (fit for JSON) and the arrays under the names
    ``variable_0000`` ... (no slash).
    """
    arrays: dict[str, np.ndarray] = {}

    def take(leaf: Any) -> str:
        name = f"variable_{len(arrays):04d}"
        arrays[name] = np.asarray(leaf)
        return "/" + name

    return map_variables(tree, take), arrays


def unflatten(json_tree: dict, variables: dict[str, np.ndarray]) -> dict:
    """Puts the arrays back: the inverse of `flatten`. Names may be written with or without the leading slash."""

    def put(leaf: Any) -> Any:
        if not (isinstance(leaf, str) and VARIABLE_PATH.match(leaf)):
            return leaf
        name = leaf[1:]
        if name not in variables:
            raise ModelError(f"the model refers to the array {name}, which is not there; the file is incomplete")
        return np.asarray(variables[name])

    return map_variables(json_tree, put)


def read_tree(path: str | os.PathLike) -> dict:
    """Reads a .dp or .yaml file; arrays keep their stored type and shape (scalars are 0-d arrays)."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TREE_SUFFIXES:
        raise ModelError(f"{path} has the suffix '{path.suffix}', expected one of {', '.join(TREE_SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"the model file {path} does not exist")
    tree = _read_yaml(path) if suffix in YAML_SUFFIXES else _read_hdf5(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise ModelError(f"{path} holds no entry 'model'; expected a model that dp convert-backend has written")
    return tree


def write_tree(path: str | os.PathLike, tree: dict) -> None:
    """Writes a .dp or .yaml file (complete or not at all), with the header software, version, time in front."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TREE_SUFFIXES:
        known = ", ".join(TREE_SUFFIXES)
        raise ModelError(f"cannot write {path}: the suffix is '{path.suffix}', expected one of {known}")
    header = {"software": "deepmd-engine", "version": __version__, "time": str(datetime.now(tz=timezone.utc))}
    full = {**header, **{key: value for key, value in tree.items() if key not in HEADER}}
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".", suffix=".part")
    os.close(handle)
    try:
        (_write_yaml if suffix in YAML_SUFFIXES else _write_hdf5)(scratch, full)
        with open(scratch, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_hdf5(path: Path) -> dict:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "json" not in file.attrs:
                raise ModelError(f"{path} is an HDF5 file without the attribute 'json', so it is not a model")
            tree = json.loads(file.attrs["json"])
            arrays = {name: np.asarray(file[name][()]) for name in file if VARIABLE_PATH.match("/" + name)}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as a .dp file ({error}); it is damaged or of another kind") from error
    return unflatten(tree, arrays)


def _write_hdf5(path: str, tree: dict) -> None:
    import h5py

    json_tree, arrays = flatten(tree)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.attrs["json"] = json.dumps(json_tree, separators=(",", ":"))


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not valid YAML: {error}") from error
    return _arrays_from_yaml(raw)


def _arrays_from_yaml(tree: Any) -> Any:
    if isinstance(tree, dict):
        if tree.get("@class") == "np.ndarray":
            return np.asarray(tree["value"], dtype=np.dtype(tree.get("dtype", "float64")))
        return {key: _arrays_from_yaml(value) for key, value in tree.items()}
    return [_arrays_from_yaml(value) for value in tree] if isinstance(tree, list) else tree


def _write_yaml(path: str, tree: dict) -> None:
    import yaml

    def spell(leaf: Any) -> Any:
        array = np.asarray(leaf)
        entry = {"@class": "np.ndarray", "@is_variable": True, "@version": 1}
        return {**entry, "dtype": array.dtype.name, "value": array.tolist()}

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    with open(path, "w", encoding="utf-8") as stream:
        yaml.dump(map_variables(tree, spell), stream, Dumper=dumper, sort_keys=False)


def check_supported(tree: dict) -> None:
    """Raises ModelError, naming the kind, where a tree holds a model that this program cannot evaluate."""
    _check_model(tree["model"])


def _check_model(model: dict) -> None:
    _check_kind("model type", model, MODEL_TYPES)
    for part in (*model.get("models", []), *([model["backbone_model"]] if "backbone_model" in model else [])):
        _check_model(part)
    if model["type"] != "standard":
        return
    _check_descriptor(model.get("descriptor", {}))
    _check_kind("fitting", model.get("fitting", {}), FITTING_TYPES)


def _check_descriptor(descriptor: dict) -> None:
    if descriptor.get("type") in DESCRIPTOR_TYPES and "compress" in descriptor:
        raise ModelError("the model holds a compressed descriptor; convert the model from before dp compress")
    _check_kind("descriptor", descriptor, DESCRIPTOR_TYPES)
    for part in descriptor.get("list", []) if descriptor["type"] == "hybrid" else []:
        _check_descriptor(part)
    if descriptor.get("env_mat", {}).get("use_exp_switch"):
        raise ModelError("the model uses the exponential switch (use_exp_switch), which is not supported")
    for flag, what in UNBUILT_FLAGS.items():
        if descriptor.get(flag):
            raise ModelError(f"the descriptor '{descriptor['type']}' has {what} ({flag}), which is not supported")


def _check_kind(what: str, entry: dict, known: dict[str, tuple[int, int]]) -> None:
    kind = entry.get("type")
    if kind not in known:
        names = ", ".join(sorted(known))
        raise ModelError(f"the model has the {what} '{kind}', which is not supported; supported: {names}")
    low, high = known[kind]
    version = entry.get("@version", low)
    if not low <= version <= high:
        raise ModelError(f"the {what} '{kind}' has version {version}; this program reads {low} to {high}")


def describe(tree: dict) -> list[str]:
    """What a tree holds, one statement a line: type map, descriptor, widths, biases."""
    model = tree["model"]
    lines = [f"model type      : {model.get('type')}", f"type map        : {' '.join(model.get('type_map', []))}"]
    if "spin" in model:
        lines.append(f"spins           : {model['spin']}, with virtual atoms in this model:")
        return lines + describe({**tree, "model": model["backbone_model"]})
    descriptor, fitting = model.get("descriptor"), model.get("fitting")
    for number, part in enumerate(model.get("models", [])):
        lines += [f"part {number + 1}          : {line}" for line in describe({"model": part})]
    if "tab" in model:
        tab = model["tab"]
        lines.append(f"table           : {tab.get('rmin')} to {tab.get('rmax')} A in steps of {tab.get('hh')} A")
    if isinstance(descriptor, dict):
        lines += _describe_descriptor(descriptor)
    if isinstance(fitting, dict):
        lines += _describe_fitting(fitting)
        if fitting.get("type") == "ener":
            bias = np.ravel(model[VARIABLES]["out_bias"]) + np.ravel(_or_zero(fitting[VARIABLES].get("bias_atom_e")))
            pairs = zip(model.get("type_map", []), bias, strict=False)
            lines.append("energy biases   : " + ", ".join(f"{name} {value:.6f} eV" for name, value in pairs))
    if model.get("type") == "pairwise_dprc":
        lines.append("beware          : DeePMD-kit has no files of this form for pairwise_dprc")
    for key in ("atom_exclude_types", "pair_exclude_types"):
        if model.get(key):
            lines.append(f"{key:<16}: {model[key]}")
    distance = (tree.get(VARIABLES) or {}).get("min_nbor_dist")
    if distance is not None:
        lines.append(f"min distance    : {np.ravel(distance)[0]:.6f} A")
    lines += [f"beware          : DeePMD-kit's PyTorch backend reads a two-sided {kind} as one-sided"
              for kind in _one_sided_in_the_peer(model)]  # fmt: skip
    _, arrays = flatten(model)
    lines.append(f"numbers stored  : {sum(array.size for array in arrays.values())} in {len(arrays)} arrays")
    return lines


def _one_sided_in_the_peer(model: dict) -> list[str]:
    """Descriptors with a net for each pair of types, of which DeePMD-kit takes only some without a word."""
    descriptor = model.get("descriptor") or {}
    parts = [descriptor, *descriptor.get("list", [])]
    return ["se_e2_r" for part in parts if part.get("type") == "se_r" and not part.get("type_one_side", True)]


def _or_zero(value: Any) -> Any:
    return 0.0 if value is None else value


def _describe_descriptor(descriptor: dict) -> list[str]:
    lines = [f"descriptor      : {descriptor.get('type')}"]
    for part in descriptor.get("list", []):
        lines += _describe_descriptor(part)
    if "rcut" in descriptor:
        lines.append(f"rcut, rcut_smth : {descriptor['rcut']} {descriptor.get('rcut_smth')} A")
        lines.append(f"sel             : {descriptor.get('sel')}")
    for block, args in (("repinit", "repinit_args"), ("repformer", "repformer_args"), ("repflow", "repflow_args")):
        if args in descriptor:
            keys = "rcut nsel neuron nlayers g1_dim g2_dim n_dim e_dim a_dim e_rcut a_rcut".split()
            sizes = [f"{key} {descriptor[args][key]}" for key in keys if key in descriptor[args]]
            lines.append(f"{block:<16}: {', '.join(sizes)}")
    if "neuron" in descriptor:
        sizes = f"{descriptor['neuron']}, axis {descriptor.get('axis_neuron', '-')}"
        sided = " one-sided" if descriptor.get("type_one_side") else ""
        lines.append(f"embedding       : {sizes}, {descriptor.get('activation_function')}{sided}")
        lines.append(f"precision       : {descriptor.get('precision')}")
    if descriptor.get("exclude_types"):
        lines.append(f"exclude_types   : {descriptor['exclude_types']}")
    return lines


def _describe_fitting(fitting: dict) -> list[str]:
    lines = [f"fitting         : {fitting.get('type')} {fitting.get('neuron')}, {fitting.get('activation_function')}"]
    if fitting.get("type") != "ener":
        outputs = [np.shape(layer[VARIABLES]["w"])[1] for net in fitting["nets"]["networks"] for layer in net["layers"]]
        lines.append(f"predicts        : {fitting.get('var_name', fitting.get('type'))}, {outputs[-1]} outputs an atom")
    if fitting.get("numb_fparam") or fitting.get("numb_aparam"):
        lines.append(f"fparam, aparam  : {fitting.get('numb_fparam')} {fitting.get('numb_aparam')}")
    return lines


def load_tree(path: str | os.PathLike, head: str | None = None) -> dict:
    """The neutral tree of any model file: .dp, .yaml, a frozen .pth of this program, or a checkpoint (.pt).

    head: the task of a checkpoint of several tasks.
    """
    path = Path(path)
    if path.suffix.lower() == ".pt":
        return _of_checkpoint(path, head)
    if head:
        raise ModelError(f"{path}: got the head '{head}', but such a file holds a single task; leave it out")
    if path.suffix.lower() != ".pth":
        return read_tree(path)
    from deepmd import model_file

    tree = model_file.read(path).tree
    scalars = tree.get(VARIABLES) or {}  # weights in a frozen file are arrays of one number where a scalar was meant
    tree[VARIABLES] = {key: None if value is None else np.reshape(value, ()) for key, value in scalars.items()}
    return tree


def take_modifier(tree: dict) -> str | None:
    """Takes the modifier's section out of a tree's input, in place; its type, None without one."""
    section = tree.get("model_def_script")
    modifier = section.pop("modifier", None) if isinstance(section, dict) else None
    return modifier and modifier["type"]


def _of_checkpoint(path: Path, head: str | None) -> dict:
    """The tree of a checkpoint, of this program or of DeePMD-kit's PyTorch backend."""
    from deepmd import foreign_checkpoint

    if foreign_checkpoint.is_foreign(path):
        return foreign_checkpoint.read_tree(path, head)
    from deepmd.train.checkpoint import load_model

    model, _ = load_model(path, head)
    distance = model.min_pair_distance
    variables = {} if distance is None else {"min_nbor_dist": np.array(distance)}
    return {"model": model.serialize(), "model_def_script": model.section, VARIABLES: variables}


def main(args: argparse.Namespace) -> None:
    """``dp convert-backend INPUT OUTPUT``: from .dp, .yaml, .pth and .pt to .dp, .yaml and .pth."""
    source, target = Path(args.INPUT), Path(args.OUTPUT)
    written = (*TREE_SUFFIXES, ".pth")
    for role, path, known in (("input", source, (*written, ".pt")), ("output", target, written)):
        if path.suffix.lower() not in known:
            raise ModelError(f"the {role} {path} has the suffix '{path.suffix}', expected one of {', '.join(known)}")
    tree = load_tree(source, getattr(args, "head", None))
    for line in describe(tree):
        log.info("%s", line)
    if target.suffix.lower() == ".pth":
        check_supported(tree)
        from deepmd.freeze import freeze_model
        from deepmd.nn.model import deserialize

        if left_out := take_modifier(tree):
            raise ModelError(f"{source} has the modifier '{left_out}', which is lost on this way; use dp freeze")
        freeze_model(deserialize(tree), target)
    else:
        if left_out := take_modifier(tree):
            words = "%s holds the model of short range alone: the modifier '%s' is no part of such files"
            log.warning(words, target, left_out)
        write_tree(target, tree)
    log.info("converted %s to %s", source, target)
