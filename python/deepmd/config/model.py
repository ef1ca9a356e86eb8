"""The schema of `model` and the checks of its common keys."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from . import descriptor, fitting, modifier, pairwise, spin
from .descriptor.shared import check_pairs
from .messages import nearest, require


def _standard() -> Argument:
    fields = [
        descriptor.argument(),
        fitting.argument(),
        spin.argument(),
        Argument("model_branch_alias", list[str], optional=True, default=[], doc="Other names of a task; empty here."),
        Argument("info", dict, optional=True, default={}, doc="Free notes that travel with the model."),
        Argument(
            "bridging_method", [str, None], optional=True, default="None", doc="A short-range bridge; 'None' here."
        ),
        Argument("bridging_r_inner", float, optional=True, default=0.5, doc="Without effect while there is no bridge."),
        Argument("bridging_r_outer", float, optional=True, default=0.8, doc="Without effect while there is no bridge."),
    ]
    return Argument("standard", dict, [*fields, *_table()], doc="A descriptor and a fitting net.")


def _table() -> list[Argument]:
    """A table of pair energies that takes over at short distances."""
    return [
        Argument(
            "use_srtab",
            [str, None],
            optional=True,
            default=None,
            doc="File of a table of pair energies that takes the place of the network where atoms come close: the "
            "distance in Angstrom and one column in eV for each pair of types, 0-0, 0-1, ..., 1-1, ...",
        ),
        Argument(
            "smin_alpha",
            [float, None],
            optional=True,
            default=0.1,
            doc="Width in Angstrom of the weights that make a smooth shortest distance of an atom's neighbours.",
        ),
        Argument("sw_rmin", [float, None], optional=True, doc="Distance in Angstrom below which the table stands."),
        Argument("sw_rmax", [float, None], optional=True, doc="Distance in Angstrom above which the network stands."),
    ]


def _pairtab() -> Argument:
    fields = [
        Argument("tab_file", str, doc="File of the table, as `use_srtab` of a standard model describes it."),
        Argument("rcut", float, doc="Cutoff radius in Angstrom, from which on the energy of a pair is zero."),
        Argument(
            "sel", [list[int], int, str], optional=True, default=1, doc="Accepted; no neighbour is ever dropped."
        ),
    ]
    return Argument("pairtab", dict, fields, doc="A table of pair energies; there is nothing to train (numb_steps 0).")


def _frozen() -> Argument:
    fields = [Argument("model_file", str, doc="A frozen model (.pth) or a .dp or .yaml file.")]
    return Argument("frozen", dict, fields, doc="A model from a file, whose parameters stay as they are.")


def _linear() -> Argument:
    names = Argument("type_map", list[str], optional=True, doc="Names of the types, those of the whole by default.")
    part = Variant(
        "type", [_standard(), _pairtab(), _frozen()], optional=True, default_tag="standard", doc="The kind of part."
    )
    fields = [
        Argument("models", list, [names, *_common()], [part], repeat=True, doc="The parts."),
        Argument(
            "weights",
            [list[float], str],
            optional=True,
            default="mean",
            doc="`mean`, `sum`, or one number for each part.",
        ),
    ]
    return Argument("linear_ener", dict, fields, doc="A weighted sum of the energies of several models.")


def _common() -> list[Argument]:
    return [*_statistics(), *_exclusions()]


def _statistics() -> list[Argument]:
    return [
        Argument(
            "data_stat_nbatch",
            int,
            optional=True,
            default=10,
            doc="How many batches of each system are read to normalise the descriptor and to fit the energy of types.",
        ),
        Argument(
            "data_stat_protect",
            float,
            optional=True,
            default=0.01,
            doc="Smallest standard deviation that frame and atomic parameters are divided by.",
        ),
        Argument(
            "data_bias_nsample",
            int,
            optional=True,
            default=10,
            doc="Accepted for old inputs: number of frames per system used to change the energy bias.",
        ),
        Argument("srtab_add_bias", bool, optional=True, default=True, doc="Without effect while no table is used."),
    ]


def _exclusions() -> list[Argument]:
    return [
        Argument(
            "pair_exclude_types",
            list[list[int]],
            optional=True,
            default=[],
            doc="Pairs of types that are no neighbours of each other anywhere in the model, such as [[0, 1]].",
        ),
        Argument(
            "atom_exclude_types",
            list[int],
            optional=True,
            default=[],
            doc="Types whose atoms contribute no energy.",
        ),
        Argument(
            "preset_out_bias",
            [dict, None],
            optional=True,
            default=None,
            doc='Energies of types that are set and not fitted: {"energy": [-93.1, null]} has one number or null '
            "per type, null meaning that the data decide.",
        ),
    ]


def argument() -> Argument:
    """The schema of `model`."""
    names = Argument(
        "type_map",
        list[str],
        doc="Names of the types, usually chemical symbols. Data systems are matched by name, so their own order "
        "does not matter.",
    )
    kinds = [_standard(), _pairtab(), _frozen(), _linear(), pairwise.argument([_standard(), _frozen()], _common())]
    kind = Variant("type", kinds, optional=True, default_tag="standard", doc="The kind of model.")
    fields = [names, *_common(), modifier.argument()]
    return Argument("model", dict, fields, [kind], doc="The model.")


def check(section: dict[str, Any], path: str = "model") -> None:
    """Check the values of a model section whose types are right."""
    type_map = section["type_map"]
    _check_type_map(type_map, f"{path}/type_map")
    KINDS[section["type"]](section, path)
    modifier.check(section, path)
    for key in ("data_stat_nbatch", "data_bias_nsample"):
        require(section[key] >= 1, f"{path}/{key}", section[key], "a number of 1 or more")
    protect = section["data_stat_protect"]
    require(protect > 0, f"{path}/data_stat_protect", protect, "a positive number")
    check_pairs(section["pair_exclude_types"], f"{path}/pair_exclude_types", len(type_map))
    for index, one in enumerate(section["atom_exclude_types"]):
        require(
            0 <= one < len(type_map),
            f"{path}/atom_exclude_types[{index}]",
            one,
            f"a type index from 0 to {len(type_map) - 1}",
        )
    _check_preset(section["preset_out_bias"], f"{path}/preset_out_bias", type_map)


def _check_standard(section: dict[str, Any], path: str) -> None:
    type_map = section["type_map"]
    descriptor.check(section["descriptor"], f"{path}/descriptor", type_map)
    fitting.check(section["fitting_net"], f"{path}/fitting_net", type_map)
    masked = section["descriptor"]["type"] == "se_a_mask"
    given, n = section["fitting_net"].get("use_aparam_as_mask", False), section["fitting_net"].get("numb_aparam", 0)
    words = "true, as the descriptor is se_a_mask" if masked else "false, as the descriptor is not se_a_mask"
    require(given == masked, f"{path}/fitting_net/use_aparam_as_mask", given, words)
    require(not masked or n == 1, f"{path}/fitting_net/numb_aparam", n, "1, the mask")
    if section["spin"] is not None:
        require(not masked, f"{path}/spin", section["spin"], "no spins, as the descriptor is se_a_mask")
        spin.check(section, path)
    if section["use_srtab"] is None:
        return
    require(not masked, f"{path}/use_srtab", section["use_srtab"], "null, as the descriptor is se_a_mask")
    low, high = section.get("sw_rmin"), section.get("sw_rmax")
    require(low is not None and low >= 0, f"{path}/sw_rmin", low, "a distance in Angstrom, as use_srtab is given")
    require(high is not None and high > low, f"{path}/sw_rmax", high, f"a distance above sw_rmin ({low})")
    alpha = section["smin_alpha"]
    require(alpha is not None and alpha > 0, f"{path}/smin_alpha", alpha, "a positive length in Angstrom")
    fit = section["fitting_net"]["type"]
    require(fit == "ener", f"{path}/fitting_net/type", fit, "'ener', as use_srtab adds energies")


def _check_pairtab(section: dict[str, Any], path: str) -> None:
    require(section["rcut"] > 0, f"{path}/rcut", section["rcut"], "a positive length in Angstrom")
    require(bool(section["tab_file"].strip()), f"{path}/tab_file", section["tab_file"], "a file name")


def _check_frozen(section: dict[str, Any], path: str) -> None:
    require(bool(section["model_file"].strip()), f"{path}/model_file", section["model_file"], "a file name")


def _check_linear(section: dict[str, Any], path: str) -> None:
    models, weights = section["models"], section["weights"]
    require(len(models) > 0, f"{path}/models", models, "at least one model")
    for index, part in enumerate(models):
        part.setdefault("type_map", list(section["type_map"]))
        check(part, f"{path}/models[{index}]")
    words = f"'mean', 'sum' or {len(models)} numbers, one for each of models"
    good = weights in ("mean", "sum") if isinstance(weights, str) else len(weights) == len(models)
    require(good, f"{path}/weights", weights, words)


def _check_pairwise(section: dict[str, Any], path: str) -> None:
    pairwise.check(section, path, check)


KINDS = {
    "standard": _check_standard,
    "pairtab": _check_pairtab,
    "frozen": _check_frozen,
    "linear_ener": _check_linear,
    "pairwise_dprc": _check_pairwise,
}


def _check_type_map(type_map: list[str], path: str) -> None:
    require(len(type_map) > 0, path, type_map, "at least one name of a type")
    for index, name in enumerate(type_map):
        where = f"{path}[{index}]"
        require(bool(name) and not any(c.isspace() for c in name), where, name, "a name without blanks")
        first = type_map.index(name)
        require(first == index, where, name, f"each name once, but type {first} has the same name")


def _check_preset(preset: dict[str, Any] | None, path: str, type_map: list[str]) -> None:
    for key, values in (preset or {}).items():
        where = f"{path}/{key}"
        near = f"did you mean '{nearest(key, ['energy'])}'?" if nearest(key, ["energy"]) else ""
        require(key == "energy", where, values, "the key 'energy', the only output of an energy model", near)
        good = isinstance(values, list) and len(values) == len(type_map)
        good = good and all(one is None or type(one) in (int, float) for one in values)
        require(good, where, values, f"{len(type_map)} entries, one number or null per type of model/type_map")
