"""DPA-2: a two-body block followed by layers of message passing."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from ..grammar import check_activation
from . import shared, typed

STYLES = ("res_avg", "res_incr", "res_residual")


def _key(name: str, kind: Any, default: Any, doc: str) -> Argument:
    return Argument(name, kind, optional=True, default=default, doc=doc)


def _repinit() -> Argument:
    keys = [
        Argument("rcut", float, doc="Cutoff of the first block in Angstrom, the largest of the model."),
        Argument("rcut_smth", float, doc="Where its switching begins."),
        Argument("nsel", [int, str], doc="Number of neighbours that its normalisation counts on, or `auto`."),
        shared.neuron_argument([25, 50, 100]),
        shared.axis_argument(16),
        _key("tebd_dim", int, 8, "Width of the vector of a type."),
        typed.mode_argument(),
        _key("set_davg_zero", bool, True, "Keep the averages of the rows at zero."),
        _key("activation_function", str, "tanh", shared.doc_activation()),
        _key("resnet_dt", bool, False, "Whether skip connections carry trained time steps."),
        shared.one_side_argument(),
        _key("use_three_body", bool, False, "Add a sum over couples of neighbours, as in se_e3_tebd."),
        _key("three_body_neuron", list[int], [2, 4, 8], "Widths of its embedding net."),
        _key("three_body_rcut", float, 4.0, "Its cutoff in Angstrom."),
        _key("three_body_rcut_smth", float, 0.5, "Where its switching begins."),
        _key("three_body_sel", [int, str], 40, "Number of neighbours that its normalisation counts on, or `auto`."),
    ]
    return Argument("repinit", dict, keys, doc="The first block, which gives each atom its features.")


def _repformer() -> Argument:
    keys = [
        Argument("rcut", float, doc="Cutoff of the messages in Angstrom."),
        Argument("rcut_smth", float, doc="Where the switching begins."),
        Argument("nsel", [int, str], doc="Number of neighbours that the normalisation counts on, or `auto`."),
        _key("nlayers", int, 3, "Number of layers."),
        _key("g1_dim", int, 128, "Width of the features of an atom."),
        _key("g2_dim", int, 16, "Width of the features of a pair."),
        shared.axis_argument(4),
        _key("direct_dist", bool, False, "Distances and vectors as they are, instead of rows."),
        _key("update_g1_has_conv", bool, True, "Convolution of the neighbours' features."),
        _key("update_g1_has_drrd", bool, True, "Symmetrised features of the neighbours."),
        _key("update_g1_has_grrg", bool, True, "Symmetrised features of the pairs."),
        _key("update_g1_has_attn", bool, True, "Attention over the neighbours."),
        _key("update_g2_has_g1g1", bool, True, "Products of the features of both atoms."),
        _key("update_g2_has_attn", bool, True, "Attention among the pairs of an atom."),
        _key("update_h2", bool, False, "Update the directions too."),
        _key("attn1_hidden", int, 64, "Width of the attention over the neighbours."),
        _key("attn1_nhead", int, 4, "Its number of heads."),
        _key("attn2_hidden", int, 16, "Width of the attention among pairs."),
        _key("attn2_nhead", int, 4, "Its number of heads."),
        _key("attn2_has_gate", bool, False, "Multiply its logits by the product of the directions."),
        _key("use_sqrt_nnei", bool, True, "Divide symmetrised sums by the root of nsel instead of nsel."),
        _key("g1_out_conv", bool, True, "Join the convolution as an update of its own."),
        _key("g1_out_mlp", bool, True, "Join a layer of the atom's own features as an update."),
        _key("activation_function", str, "tanh", shared.doc_activation()),
        _key("update_style", str, "res_avg", "How updates are joined: res_avg, res_incr or res_residual."),
        _key("update_residual", float, 0.001, "Initial size of the factors of res_residual."),
        _key("update_residual_init", str, "norm", "Random factors (`norm`) or equal ones (`const`)."),
        _key("set_davg_zero", bool, True, "Keep the averages of the rows at zero."),
        _key("trainable_ln", bool, True, "Whether scale and shift of the layer norm are trained."),
        _key("ln_eps", [float, None], None, "Added to the variance; null is 1e-5."),
    ]
    return Argument("repformer", dict, keys, doc="The layers of message passing.")


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is dpa2."""
    own = [
        _repinit(),
        _repformer(),
        *(a for a in typed.type_arguments() if a.name != "tebd_dim"),
        _key("smooth", bool, True, "Smooth forms throughout, so that energies are smooth at the cutoffs."),
        Argument(
            "add_tebd_to_repinit_out",
            bool,
            optional=True,
            default=False,
            alias=["repformer_add_type_ebd_to_seq"],
            doc="Add a layer of the vector of the type to the features after the first block.",
        ),
        *shared.exclusion_arguments(None),
        *shared.training_arguments(),
    ]
    return Argument("dpa2", dict, own, doc="Message passing between atoms, with one net for all types.")


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    first, second = section["repinit"], section["repformer"]
    for name, part in (("repinit", first), ("repformer", second)):
        where = f"{path}/{name}"
        shared.check_cutoff(part, where)
        shared.check_total_sel(part["nsel"], f"{where}/nsel")
        check_activation(part["activation_function"], f"{where}/activation_function")
        shared.require(part["axis_neuron"] > 0, f"{where}/axis_neuron", part["axis_neuron"], "a positive number")
    shared.check_neuron(first["neuron"], f"{path}/repinit/neuron")
    shared.check_axis(first, f"{path}/repinit")
    shared.check_neuron(first["three_body_neuron"], f"{path}/repinit/three_body_neuron")
    shared.check_total_sel(first["three_body_sel"], f"{path}/repinit/three_body_sel")
    three = {"rcut": first["three_body_rcut"], "rcut_smth": first["three_body_rcut_smth"]}
    shared.check_cutoff(three, f"{path}/repinit/three_body_")
    typed.check_types({**section, "tebd_dim": first["tebd_dim"], "tebd_input_mode": first["tebd_input_mode"]}, path)
    for inner, where in ((second["rcut"], "repformer/rcut"), (three["rcut"], "repinit/three_body_rcut")):
        needed = where == "repformer/rcut" or first["use_three_body"]
        shared.require(inner <= first["rcut"] or not needed, f"{path}/{where}", inner, "at most repinit/rcut")
    widths = ("nlayers", "g1_dim", "g2_dim", "attn1_hidden", "attn1_nhead", "attn2_hidden", "attn2_nhead")
    for key in widths:
        shared.require(second[key] > 0, f"{path}/repformer/{key}", second[key], "a positive number")
    most = min(second["g1_dim"], second["g2_dim"])
    axis = second["axis_neuron"]
    shared.require(axis <= most, f"{path}/repformer/axis_neuron", axis, f"at most g1_dim and g2_dim ({most})")
    style, init = second["update_style"], second["update_residual_init"]
    shared.require(style in STYLES, f"{path}/repformer/update_style", style, f"one of {shared.listed(STYLES)}")
    shared.require(init in ("norm", "const"), f"{path}/repformer/update_residual_init", init, "'norm' or 'const'")
    shared.check_rows(section, path, type_map)
    shared.check_choice(f"{path}/precision", section["precision"], "precision")
    shared.check_seed(section, path)


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    first, second = section["repinit"], section["repformer"]
    entries = [
        shared.SelEntry(first, "nsel", first["rcut"], f"{path}/repinit/nsel", by_type=False),
        shared.SelEntry(second, "nsel", second["rcut"], f"{path}/repformer/nsel", by_type=False),
    ]
    if first["use_three_body"]:
        where = f"{path}/repinit/three_body_sel"
        entries.append(shared.SelEntry(first, "three_body_sel", first["three_body_rcut"], where, by_type=False))
    return entries
