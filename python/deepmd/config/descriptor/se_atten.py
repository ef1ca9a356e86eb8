"""The attention descriptors se_atten (dpa1) and se_atten_v2."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared, typed


def _attention() -> list[Argument]:
    return [
        Argument("attn", int, optional=True, default=128, doc="Width of queries, keys and values of the attention."),
        Argument("attn_layer", int, optional=True, default=2, doc="Number of attention layers; 0 leaves them out."),
        Argument(
            "attn_dotr",
            bool,
            optional=True,
            default=True,
            doc="Whether the weights are multiplied by the cosine of the angle between the two neighbours.",
        ),
        Argument("attn_mask", bool, optional=True, default=False, doc="Hide a neighbour from itself; only false runs."),
        Argument(
            "trainable_ln",
            bool,
            optional=True,
            default=True,
            doc="Whether scale and shift of the layer norm are trained.",
        ),
        Argument("ln_eps", [float, None], optional=True, default=None, doc="Added to the variance; null is 1e-5."),
        Argument(
            "scaling_factor",
            float,
            optional=True,
            default=1.0,
            doc="Queries are divided by the root of `attn` times this, unless `temperature` is given.",
        ),
        Argument("normalize", bool, optional=True, default=True, doc="Whether queries, keys and values get length 1."),
        Argument("temperature", [float, None], optional=True, default=None, doc="Factor of the queries."),
        Argument("lmax", int, optional=True, default=1, doc="Highest order of the angular rows; only 1 runs here."),
    ]


def common_arguments(davg_zero: bool) -> list[Argument]:
    return [
        shared.total_sel_argument(),
        *shared.cutoff_arguments(),
        shared.neuron_argument([10, 20, 40]),
        shared.axis_argument(),
        shared.one_side_argument(),
        *shared.network_arguments(),
        *shared.exclusion_arguments(davg_zero),
        *typed.type_arguments(),
        *_attention(),
    ]


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_atten."""
    own = [
        typed.mode_argument(),
        Argument(
            "smooth_type_embedding",
            bool,
            optional=True,
            default=False,
            alias=["smooth_type_embdding"],
            doc="Whether attention and stripped type embedding fade with the switch, so that energies are smooth where "
            "a neighbour passes the cutoff. Recommended with attention layers.",
        ),
        Argument(
            "stripped_type_embedding",
            [bool, None],
            optional=True,
            default=None,
            doc="The old name of tebd_input_mode: true is `strip`.",
        ),
    ]
    return Argument(
        "se_atten",
        dict,
        [*common_arguments(True), *own],
        alias=["dpa1"],
        doc="Distances and directions with one net for all types, and attention among the neighbours.",
    )


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_cutoff(section, path)
    shared.check_total_sel(section["sel"], f"{path}/sel")
    shared.check_embedding(section, path)
    shared.check_rows(section, path, type_map)
    if section.pop("stripped_type_embedding", None):
        section["tebd_input_mode"] = "strip"
    typed.check_types(section, path)
    for key, least in (("attn", 1), ("attn_layer", 0)):
        shared.require(section[key] >= least, f"{path}/{key}", section[key], f"a number of {least} or more")
    shared.require(section["scaling_factor"] > 0, f"{path}/scaling_factor", section["scaling_factor"], "above 0")
    eps = section["ln_eps"]
    shared.require(eps is None or eps > 0, f"{path}/ln_eps", eps, "null or a positive number")
    mask, order = section["attn_mask"], section["lmax"]
    shared.require(not mask, f"{path}/attn_mask", mask, "false, as this documented option is not built here yet")
    shared.require(order == 1, f"{path}/lmax", order, "1, as higher orders are not built here yet")


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """Where neighbour numbers stand."""
    return [shared.SelEntry(section, "sel", section["rcut"], f"{path}/sel", by_type=False)]
