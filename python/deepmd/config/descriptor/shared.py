"""Keys and checks that the descriptors share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dargs import Argument

from ..built import BUILT, check_choice
from ..grammar import check_activation, check_auto_sel
from ..messages import listed, require


@dataclass(frozen=True)
class SelEntry:
    """A number of neighbours in an input, which `auto` leaves to the data: `owner[key]`, within `rcut` (Angstrom)."""

    owner: dict[str, Any]
    key: str
    rcut: float
    path: str
    by_type: bool


def doc_activation() -> str:
    """The doc text of an activation function."""
    return (
        f"Activation function of the hidden layers: {listed(BUILT['activation_function'])}. "
        "`silut:a` sets the threshold of silut (3 when left out); `linear` and `none` mean no activation."
    )


def doc_precision() -> str:
    """The doc text of a precision."""
    return (
        f"Floating-point type of the network: {listed(BUILT['precision'])}. "
        "`default` is float64. Positions, energies, forces and virials are float64 in every case."
    )


def cutoff_arguments() -> list[Argument]:
    """rcut and rcut_smth."""
    return [
        Argument("rcut", float, optional=True, default=6.0, doc="Cutoff radius in Angstrom."),
        Argument(
            "rcut_smth",
            float,
            optional=True,
            default=0.5,
            doc="Distance in Angstrom where the switching begins: the weight of a neighbour falls smoothly from 1 "
            "here to 0 at `rcut`. It must be smaller than `rcut`.",
        ),
    ]


def sel_argument() -> Argument:
    """`sel` of the descriptors that count neighbours by type."""
    return Argument(
        "sel",
        [list[int], str],
        optional=True,
        default="auto",
        doc="One number per type of `type_map`: how many neighbours of that type the normalisation counts on. It "
        "is part of the model, since the sums over neighbours are divided by the total of `sel`; it is not a "
        "capacity, and neighbours beyond it are kept. `auto` takes the largest count found in the training data "
        "times 1.1, rounded up to a multiple of 4; `auto:1.3` takes another factor.",
    )


def total_sel_argument(name: str = "sel", optional: bool = True) -> Argument:
    """`sel` of the descriptors that count neighbours of all types together."""
    return Argument(
        name,
        [int, list[int], str],
        optional=optional,
        default="auto",
        doc="How many neighbours of any type the normalisation counts on; a list is summed. It is part of the model "
        "and not a capacity: neighbours beyond it are kept. `auto` takes the largest count found in the training data "
        "times 1.1, rounded up to a multiple of 4; `auto:1.3` takes another factor.",
    )


def neuron_argument(default: list[int]) -> Argument:
    """Widths of an embedding net."""
    return Argument(
        "neuron",
        list[int],
        optional=True,
        default=default,
        doc="Widths of the layers of the embedding net. A layer as wide as the one before, or twice as wide, "
        "gets a skip connection.",
    )


def axis_argument(default: int = 4) -> Argument:
    """The second factor of T T^T."""
    return Argument(
        "axis_neuron",
        int,
        optional=True,
        default=default,
        alias=["n_axis_neuron"],
        doc="How many columns of the embedding form the second factor of the descriptor, at most the last width in "
        "`neuron`.",
    )


def one_side_argument(default: bool = False) -> Argument:
    """One net for each neighbour type, or for each pair of types."""
    return Argument(
        "type_one_side",
        bool,
        optional=True,
        default=default,
        doc="True: one embedding net per type of neighbour. False: one per pair of centre and neighbour types.",
    )


def network_arguments() -> list[Argument]:
    """What every embedding net has beside its widths."""
    return [
        Argument("activation_function", str, optional=True, default="tanh", doc=doc_activation()),
        Argument(
            "resnet_dt", bool, optional=True, default=False, doc="Whether skip connections carry trained time steps."
        ),
        *training_arguments(),
    ]


def training_arguments() -> list[Argument]:
    """Precision, trainability and seed."""
    return [
        Argument("precision", str, optional=True, default="default", doc=doc_precision()),
        Argument("trainable", bool, optional=True, default=True, doc="Whether the embedding nets are trained."),
        Argument("seed", [int, None], optional=True, doc="Seed of the initial parameters of the embedding nets."),
    ]


def embedding_arguments() -> list[Argument]:
    """The embedding network of the two-body descriptors and its flags."""
    return [neuron_argument([10, 20, 40]), axis_argument(), one_side_argument(), *network_arguments()]


def exclusion_arguments(davg_zero: bool | None = False) -> list[Argument]:
    """Excluded pairs, the protection of the division by the distance, and the default of set_davg_zero (None: none)."""
    zero = Argument(
        "set_davg_zero",
        bool,
        optional=True,
        default=davg_zero,
        doc="Keep the averages of the environment rows at zero instead of taking them from the data. Set it when "
        "`atom_ener` is used.",
    )
    return [
        Argument(
            "exclude_types",
            list[list[int]],
            optional=True,
            default=[],
            doc="Pairs of types that do not see each other in this descriptor: [[0, 1]] switches off 0-1 and 1-0.",
        ),
        Argument(
            "env_protection",
            float,
            optional=True,
            default=0.0,
            doc="A length in Angstrom added to distances before dividing by them.",
        ),
        *([] if davg_zero is None else [zero]),
    ]


def check_cutoff(section: dict[str, Any], path: str) -> None:
    """rcut > 0 and 0 <= rcut_smth < rcut."""
    rcut, smooth = section["rcut"], section["rcut_smth"]
    require(rcut > 0, f"{path}/rcut", rcut, "a positive length in Angstrom")
    require(
        0 <= smooth < rcut,
        f"{path}/rcut_smth",
        smooth,
        f"a length from 0 to less than rcut ({rcut})",
        "lower rcut_smth or raise rcut",
    )


def check_sel(sel: list[int] | str, path: str, type_map: list[str]) -> None:
    """One count per type, or auto with a factor."""
    if isinstance(sel, str):
        check_auto_sel(sel, path)
        return
    require(
        len(sel) == len(type_map),
        path,
        sel,
        f"{len(type_map)} numbers, one per type of model/type_map {listed(type_map)}",
        "or write 'auto'",
    )
    for index, number in enumerate(sel):
        require(number >= 0, f"{path}[{index}]", number, "a number of neighbours, 0 or more")
    require(sum(sel) > 0, path, sel, "at least one neighbour in total", "or write 'auto'")


def check_total_sel(sel: Any, path: str) -> None:
    """One count, several to be summed, or auto with a factor."""
    if isinstance(sel, str):
        check_auto_sel(sel, path)
        return
    counts = sel if isinstance(sel, list) else [sel]
    good = len(counts) > 0 and all(n >= 0 for n in counts) and sum(counts) > 0
    require(good, path, sel, "a number of neighbours above 0", "or write 'auto'")


def check_axis(section: dict[str, Any], path: str) -> None:
    """1 <= axis_neuron <= last width."""
    width, axis = section["neuron"][-1], section["axis_neuron"]
    require(
        1 <= axis <= width,
        f"{path}/axis_neuron",
        axis,
        f"a number from 1 to the last width of neuron ({width})",
    )


def check_rows(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """Excluded pairs and protection."""
    check_pairs(section["exclude_types"], f"{path}/exclude_types", len(type_map))
    protection = section["env_protection"]
    require(protection >= 0, f"{path}/env_protection", protection, "a length of 0 or more in Angstrom")


def check_embedding(section: dict[str, Any], path: str) -> None:
    """Widths, axis and activation function of an embedding net."""
    check_neuron(section["neuron"], f"{path}/neuron")
    check_axis(section, path)
    check_network(section, path)


def check_network(section: dict[str, Any], path: str) -> None:
    """Activation function, precision and seed, which every network has."""
    check_activation(section["activation_function"], f"{path}/activation_function")
    check_choice(f"{path}/precision", section["precision"], "precision")
    check_seed(section, path)


def check_neuron(neuron: list[int], path: str) -> None:
    """At least one layer, each with at least one neuron."""
    require(len(neuron) > 0, path, neuron, "at least one layer width")
    for index, width in enumerate(neuron):
        require(width > 0, f"{path}[{index}]", width, "a positive layer width")


def check_pairs(pairs: list[Any], path: str, n_types: int) -> None:
    """Each entry is a pair of type indices."""
    for index, pair in enumerate(pairs):
        good = isinstance(pair, list) and len(pair) == 2 and all(type(one) is int for one in pair)
        where = f"{path}[{index}]"
        require(good, where, pair, "a pair of type indices such as [0, 1]")
        require(
            all(0 <= one < n_types for one in pair),
            where,
            pair,
            f"type indices from 0 to {n_types - 1}, as model/type_map has {n_types} names",
        )


def check_seed(section: dict[str, Any], path: str) -> None:
    """A seed is null or an integer that every generator accepts."""
    seed = section.get("seed")
    require(
        seed is None or 0 <= seed < 2**63,
        f"{path}/seed",
        seed,
        "null or an integer from 0 to 9223372036854775807",
    )
