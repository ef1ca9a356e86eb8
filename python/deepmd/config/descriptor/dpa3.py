"""DPA-3: message passing between atoms, pairs and angles."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from ..grammar import check_activation
from . import shared, typed
from .dpa2 import STYLES


def _key(name: str, kind: Any, default: Any, doc: str, alias: tuple[str, ...] = ()) -> Argument:
    return Argument(name, kind, optional=True, default=default, alias=list(alias), doc=doc)


def _repflow() -> Argument:
    keys = [
        _key("n_dim", int, 128, "Width of the features of an atom."),
        _key("e_dim", int, 64, "Width of the features of a pair."),
        _key("a_dim", int, 64, "Width of the features of an angle."),
        _key("nlayers", int, 6, "Number of layers."),
        Argument("e_rcut", float, doc="Cutoff of pairs in Angstrom, the cutoff of the model."),
        Argument("e_rcut_smth", float, doc="Where its switching begins."),
        Argument("e_sel", [int, str], doc="Number of neighbours that sums over pairs are divided by, or `auto`."),
        Argument("a_rcut", float, doc="Cutoff of the pairs that make angles, in Angstrom."),
        Argument("a_rcut_smth", float, doc="Where its switching begins."),
        Argument("a_sel", [int, str], doc="Number of neighbours that sums over angles are divided by, or `auto`."),
        _key("a_compress_rate", int, 0, "Compress the features of atoms and pairs in angles by this; 0: do not."),
        _key("a_compress_e_rate", int, 1, "How much less those of pairs are compressed."),
        _key("a_compress_use_split", bool, False, "Take the first features instead of a linear layer."),
        _key("n_multi_edge_message", int, 1, "Number of messages from pairs to an atom."),
        shared.axis_argument(4),
        _key("fix_stat_std", float, 0.3, "Width that rows are divided by; 0 takes it from the data."),
        _key("skip_stat", bool, False, "Accepted; statistics are skipped wherever fix_stat_std is not 0."),
        _key("update_angle", bool, True, "Whether angles exchange messages."),
        _key("update_style", str, "res_residual", "How updates are joined: res_avg, res_incr or res_residual."),
        _key("update_residual", float, 0.1, "Initial size of the factors of res_residual."),
        _key("update_residual_init", str, "const", "Equal factors (`const`) or random ones (`norm`)."),
        _key("optim_update", bool, True, "Accepted; products of atoms are made once an atom in any case."),
        _key("smooth_edge_update", bool, False, "Make the update of pairs smooth at a_rcut. Recommended."),
        _key("edge_init_use_dist", bool, False, "Begin with distances instead of rows.", ("edge_use_dist",)),
        _key(
            "use_exp_switch",
            bool,
            False,
            "The exponential switch exp(-exp(20 (r - rcut_smth) / rcut_smth)).",
            ("use_env_envelope",),
        ),
        _key("use_dynamic_sel", bool, False, "Divide e_sel and a_sel by sel_reduce_factor; needs smooth_edge_update."),
        _key("sel_reduce_factor", float, 10.0, "That factor."),
        _key("sequential_update", bool, False, "Hand each result to the next step of a layer."),
    ]
    return Argument("repflow", dict, keys, doc="The layers.")


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is dpa3."""
    joins = Argument(
        "concat_output_tebd",
        bool,
        optional=True,
        default=False,
        doc="Whether the vector of the centre's type is appended to the descriptor.",
    )
    own = [
        _repflow(),
        joins,
        *(a for a in typed.type_arguments() if a.name not in ("tebd_dim", "concat_output_tebd")),
        _key("activation_function", str, "silu", shared.doc_activation()),
        _key("use_loc_mapping", bool, True, "Accepted; it changes no result."),
        _key("add_chg_spin_ebd", bool, False, "Charge and spin of the frame as input; only false runs here."),
        _key("default_chg_spin", [list[float], None], None, "Without effect while add_chg_spin_ebd is false."),
        *shared.exclusion_arguments(None),
        *shared.training_arguments(),
    ]
    return Argument("dpa3", dict, own, doc="Message passing between atoms, pairs and angles, one net for all types.")


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    args, where = section["repflow"], f"{path}/repflow"
    for kind in "ea":
        shared.check_total_sel(args[f"{kind}_sel"], f"{where}/{kind}_sel")
        cutoff = {"rcut": args[f"{kind}_rcut"], "rcut_smth": args[f"{kind}_rcut_smth"]}
        shared.check_cutoff(cutoff, f"{where}/{kind}_")
    shared.require(args["a_rcut"] <= args["e_rcut"], f"{where}/a_rcut", args["a_rcut"], "at most e_rcut")
    for key in ("n_dim", "e_dim", "a_dim", "nlayers", "n_multi_edge_message", "sel_reduce_factor"):
        shared.require(args[key] > 0, f"{where}/{key}", args[key], "a positive number")
    axis, most = args["axis_neuron"], min(args["n_dim"], args["e_dim"])
    shared.require(0 < axis <= most, f"{where}/axis_neuron", axis, f"a number from 1 to the smaller width ({most})")
    style, init = args["update_style"], args["update_residual_init"]
    shared.require(style in STYLES, f"{where}/update_style", style, f"one of {shared.listed(STYLES)}")
    shared.require(init in ("norm", "const"), f"{where}/update_residual_init", init, "'norm' or 'const'")
    sequential, dynamic, rate = args["sequential_update"], args["use_dynamic_sel"], args["a_compress_rate"]
    good = not sequential or style == "res_residual"
    shared.require(good, f"{where}/sequential_update", sequential, "update_style res_residual with it")
    good = not dynamic or args["smooth_edge_update"]
    shared.require(good, f"{where}/use_dynamic_sel", dynamic, "smooth_edge_update true with it")
    good = rate == 0 or (rate > 0 and args["a_dim"] * args["a_compress_e_rate"] % (2 * rate) == 0)
    shared.require(good, f"{where}/a_compress_rate", rate, "0, or a divisor of a_dim * a_compress_e_rate / 2")
    flag = section["add_chg_spin_ebd"]
    shared.require(not flag, f"{path}/add_chg_spin_ebd", flag, "false, as this documented option is not built here yet")
    check_activation(section["activation_function"], f"{path}/activation_function")
    typed.refuse_configurations(section, path)
    shared.check_rows(section, path, type_map)
    shared.check_choice(f"{path}/precision", section["precision"], "precision")
    shared.check_seed(section, path)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    args = section["repflow"]
    return [
        shared.SelEntry(args, f"{kind}_sel", args[f"{kind}_rcut"], f"{path}/repflow/{kind}_sel", by_type=False)
        for kind in "ea"
    ]
