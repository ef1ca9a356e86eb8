"""Keys and checks that the fittings share."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from .descriptor.shared import check_network, check_neuron, doc_activation, doc_precision
from .messages import require

RCOND = (
    "Relative cut-off of singular values when the bias of each type is fitted to the data. null leaves it at the "
    "rounding error."
)


def check_rcond(section: dict[str, Any], path: str) -> None:
    """The cut-off of the fit of biases."""
    rcond = section["rcond"]
    require(rcond is None or rcond > 0, f"{path}/rcond", rcond, "null or a positive number")


def network_arguments(precision: str = "default") -> list[Argument]:
    """The networks; precision: the default of their floating-point type."""
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
        Argument("precision", str, optional=True, default=precision, doc=doc_precision()),
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


def parameter_arguments() -> list[Argument]:
    """Frame and atomic parameters, and the vector that tells tasks apart."""
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


def check_common(section: dict[str, Any], path: str) -> None:
    """Widths, parameters and the flags of training."""
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
