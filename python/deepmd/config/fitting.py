"""The schema of `model/fitting_net`, one function pair per kind."""

from __future__ import annotations

from typing import Any

from dargs import Argument, Variant

from .descriptor.shared import check_network, check_neuron, doc_activation, doc_precision
from .messages import require


def _network_arguments() -> list[Argument]:
    return [
        Argument(
            "neuron",
            list[int],
            optional=True,
            default=[120, 120, 120],
            alias=["n_neuron"],
            doc="Widths of the hidden layers. Layers of equal width, and layers twice as wide as the one before, "
            "are joined by skip connections.",
        ),
        Argument("activation_function", str, optional=True, default="tanh", doc=doc_activation()),
        Argument("precision", str, optional=True, default="default", doc=doc_precision()),
        Argument(
            "resnet_dt", bool, optional=True, default=True, doc="Whether skip connections carry trained time steps."
        ),
        Argument(
            "trainable",
            [bool, list[bool]],
            optional=True,
            default=True,
            doc="Whether the net is trained, for the whole net or for each layer: a list has one entry per hidden "
            "layer and one for the output layer.",
        ),
        Argument("seed", [int, None], optional=True, doc="Seed of the initial parameters of the fitting net."),
    ]


def _parameter_arguments() -> list[Argument]:
    return [
        Argument(
            "numb_fparam",
            int,
            optional=True,
            default=0,
            doc="Number of parameters of a whole frame (a temperature, say) that the net takes in. Above 0 the data "
            "must hold fparam.npy, unless `default_fparam` is given.",
        ),
        Argument(
            "numb_aparam",
            int,
            optional=True,
            default=0,
            doc="Number of parameters of each atom that the net takes in. Above 0 the data must hold aparam.npy.",
        ),
        Argument(
            "default_fparam",
            [list[float], None],
            optional=True,
            default=None,
            doc="Frame parameters that are used where none are given, `numb_fparam` numbers.",
        ),
        Argument("dim_case_embd", int, optional=True, default=0, doc="Number of tasks told apart by the net; 0 here."),
    ]


def _energy() -> Argument:
    fields = [
        *_parameter_arguments(),
        *_network_arguments(),
        Argument(
            "rcond",
            [float, None],
            optional=True,
            default=None,
            doc="Relative cut-off of singular values when the energy of each type is fitted to the data. null "
            "leaves it at the rounding error.",
        ),
        Argument(
            "atom_ener",
            list[float | None],
            optional=True,
            default=[],
            doc="One entry per type. A number marks a type whose energy vanishes for an isolated atom: what the net "
            "gives for an empty neighbourhood is taken off. null leaves the type as it is. The number itself is "
            "not used as a bias; `model/preset_out_bias` sets one. Use it with `set_davg_zero`.",
        ),
        Argument(
            "use_aparam_as_mask",
            bool,
            optional=True,
            default=False,
            doc="Whether atomic parameters only say which atoms are real; false here.",
        ),
    ]
    return Argument("ener", dict, fields, doc="The potential energy, and forces and virial as its derivatives.")


def _check_energy(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    check_neuron(section["neuron"], f"{path}/neuron")
    check_network(section, path)
    for key in ("numb_fparam", "numb_aparam"):
        require(section[key] >= 0, f"{path}/{key}", section[key], "a number of parameters, 0 or more")
    default, wanted = section["default_fparam"], section["numb_fparam"]
    require(
        default is None or len(default) == wanted > 0,
        f"{path}/default_fparam",
        default,
        f"null or {wanted} numbers, as numb_fparam is {wanted}" if wanted else "null, as numb_fparam is 0",
    )
    layers = len(section["neuron"]) + 1
    trainable = section["trainable"]
    require(
        isinstance(trainable, bool) or len(trainable) == layers,
        f"{path}/trainable",
        trainable,
        f"true, false or {layers} of them, one for each hidden layer and one for the output layer",
    )
    rcond = section["rcond"]
    require(rcond is None or rcond > 0, f"{path}/rcond", rcond, "null or a positive number")
    energies = section["atom_ener"]
    require(
        len(energies) in (0, len(type_map)),
        f"{path}/atom_ener",
        energies,
        f"an empty list or {len(type_map)} entries, one number or null per type of model/type_map",
    )


KINDS = {"ener": (_energy, _check_energy)}


def argument() -> Argument:
    """The schema of `model/fitting_net`."""
    choice = Variant(
        "type", [schema() for schema, _ in KINDS.values()], optional=True, default_tag="ener", doc="What is fitted."
    )
    return Argument("fitting_net", dict, [], [choice], doc="The net from the descriptor to the fitted property.")


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """Check the values of a fitting section whose types are right."""
    KINDS[section["type"]][1](section, path, type_map)
