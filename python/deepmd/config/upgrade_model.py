"""Old forms of the `model` section: flat keys of dpa2, keys of alpha versions, the type embedding of version 2."""

from __future__ import annotations

from typing import Any

from deepmd.errors import InputError

from . import spin
from .messages import fail, join, show

_STRIPPED = ("se_a_ebd_v2", "se_a_tpe_v2")
_TYPED = ("se_atten", "dpa1", "se_atten_v2", "se_e3_tebd")

# Flat keys whose present name is not what stands behind the prefix.
_RENAMED = {
    "repinit_activation": "activation_function",
    "repformer_activation": "activation_function",
    "repformer_axis_dim": "axis_neuron",
}
_TO_REPINIT = ("tebd_dim", "tebd_input_mode", "type_one_side", "resnet_dt")
_NOT_FLAT = ("repformer_add_type_ebd_to_seq",)  # still a name of a key beside repinit and repformer

# Keys of alpha versions that went: the values with which nothing is lost, and what any other value asks for.
_GONE_ATTEN: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "post_ln": ((True,), "layer norm in front of the attention"),
    "ffn": ((False,), "a feed-forward net after the attention"),
    "ffn_embed_dim": (None, ""),
    "head_num": ((1,), "several heads of attention"),
    "return_rot": (None, ""),
}
_GONE_DPA2: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "repformer_do_bn_mode": (("no",), "batch norm"),
    "repformer_bn_momentum": (None, ""),
}


def upgrade_model(section: Any, path: str, changes: list[str]) -> None:
    """Brings a model section, and the parts of sums and of several tasks in it, to the current form in place."""
    if not isinstance(section, dict):
        return
    for index, part in enumerate(section["models"] if isinstance(section.get("models"), list) else []):
        upgrade_model(part, f"{path}/models[{index}]", changes)
    _pairwise(section, path, changes)
    for group in ("model_dict", "shared_dict"):
        for name, part in (section[group] if isinstance(section.get(group), dict) else {}).items():
            if group == "model_dict":
                upgrade_model(part, f"{path}/{group}/{name}", changes)
            elif isinstance(part, dict):
                _descriptor(part, f"{path}/{group}/{name}", changes)
    spin.upgrade(section.get("spin"), f"{path}/spin", changes)
    _descriptor(section.get("descriptor"), f"{path}/descriptor", changes)
    _plain_with_types(section, path, changes)
    _type_embedding(section, path, changes)


def _pairwise(section: dict[str, Any], path: str, changes: list[str]) -> None:
    """Quantum atoms and fragments: both parts had one type embedding, which stood beside them."""
    if section.get("type") != "pairwise_dprc":
        return
    parts = {key: section[key] for key in ("qm_model", "qmmm_model") if isinstance(section.get(key), dict)}
    common = section.get("type_embedding")
    typed = [part for part in parts.values() if isinstance(part.get("descriptor"), dict)]
    if isinstance(common, dict) and typed:
        del section["type_embedding"]
        for part in typed:
            part["type_embedding"] = dict(common)
    for key, part in parts.items():
        upgrade_model(part, f"{path}/{key}", changes)


def _plain_with_types(section: dict[str, Any], path: str, changes: list[str]) -> None:
    """se_e2_a with a type embedding has one net of the distance and the vectors of both types, as se_atten has it."""
    descriptor = section.get("descriptor")
    if not isinstance(section.get("type_embedding"), dict) or not isinstance(descriptor, dict):
        return
    if descriptor.get("type") in ("se_e2_a", "se_a"):
        descriptor["set_davg_zero"] = descriptor.get("set_davg_zero", False)
        descriptor |= {"type": "se_atten", "tebd_input_mode": "concat", "attn_layer": 0}
        changes.append(f"{path}/descriptor, se_e2_a with a type embedding, became se_atten without attention")


def _descriptor(section: Any, path: str, changes: list[str]) -> None:
    if not isinstance(section, dict):
        return
    for index, part in enumerate(section["list"] if isinstance(section.get("list"), list) else []):
        _descriptor(part, f"{path}/list[{index}]", changes)
    kind = section.get("type")
    if kind in _STRIPPED:
        section["set_davg_zero"] = section.get("set_davg_zero", False)
        section |= {"type": "se_atten", "tebd_input_mode": "strip", "attn_layer": 0, "smooth_type_embedding": False}
        changes.append(f"{path} of type {kind} became se_atten with tebd_input_mode strip, without attention")
    if kind in ("se_atten", "dpa1"):
        _drop(section, path, _GONE_ATTEN, changes)
    if kind == "dpa2":
        _drop(section, path, _GONE_DPA2, changes)
        _nest_dpa2(section, path, changes)


def _drop(section: dict[str, Any], path: str, gone: dict[str, Any], changes: list[str]) -> None:
    for name, (harmless, what) in gone.items():
        if name not in section:
            continue
        value = section[name]
        if harmless is not None and value not in harmless:
            raise InputError(
                f"{join(path, name)}: got {show(value)}, expected {show(harmless[0])}, as it asks for {what}, which an "
                "alpha version documented and no version since runs; remove the key"
            )
        del section[name]
        changes.append(f"{join(path, name)} ({show(value)}) was dropped: an option of an alpha version without effect")


def _nest_dpa2(section: dict[str, Any], path: str, changes: list[str]) -> None:
    """Version 3.0-alpha had `repinit_rcut` for `repinit/rcut`, and one `tebd_dim` for the whole."""
    flat = [key for key in section if key.startswith(("repinit_", "repformer_")) and key not in _NOT_FLAT]
    if not flat and "tebd_dim" not in section:
        return
    for key in [*flat, *(name for name in _TO_REPINIT if name in section)]:
        block = "repformer" if key.startswith("repformer_") else "repinit"
        name = _RENAMED.get(key, key.removeprefix(f"{block}_"))
        target = section.setdefault(block, {})
        if not isinstance(target, dict):
            return
        value = section.pop(key)
        if name in target:
            known = show(target[name])
            fail(join(path, key), value, f"this key in {path}/{block} only, where it is {known}", "keep one")
        target[name] = value
        changes.append(f"{join(path, key)} moved to {path}/{block}/{name} (the form of version 3.0-alpha)")


def _type_embedding(section: dict[str, Any], path: str, changes: list[str]) -> None:
    """Version 2 had the net that makes the vectors of types beside the descriptor."""
    net, descriptor = section.get("type_embedding"), section.get("descriptor")
    if not isinstance(net, dict) or not isinstance(descriptor, dict) or descriptor.get("type") not in _TYPED:
        return  # refused where the keys are checked
    where, widths = f"{path}/type_embedding", net.get("neuron", [8])
    if not (isinstance(widths, list) and len(widths) == 1):
        fail(f"{where}/neuron", widths, "one number, as one layer makes the vectors", "give descriptor/tebd_dim")
    del section["type_embedding"]
    if "tebd_dim" in descriptor and descriptor["tebd_dim"] != widths[0]:
        fail(f"{where}/neuron", widths, f"tebd_dim of the descriptor ({show(descriptor['tebd_dim'])})", "keep one")
    descriptor["tebd_dim"] = widths[0]
    changes.append(f"{where} became {path}/descriptor/tebd_dim ({widths[0]}): one linear layer makes vectors of types")
