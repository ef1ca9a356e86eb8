"""Descriptors, one file each: how the surroundings of an atom become numbers without orientation.

What a descriptor offers, and all that models, fittings, statistics and files know of it:

- `cls(section, type_map)`: from a normalised `model/descriptor` section whose `sel` are numbers.
- `dim_out`: width of the descriptor. `dim_rotation`: number of equivariant vectors per atom; 0 where it has none.
- `rcut`, `rcut_smth` (Angstrom), `sel` (as in the input, a list), `dtype`, `section`, `type_map`, `n_types`.
- `mixed_types`: whether the type of the centre is an input of the descriptor, so that one fitting network serves all.
- `passes_messages`: whether atoms tell each other what they know. Then `forward` needs whole frames whose neighbours
  are owners: n_centers == n_all and neighbors[p] < n_centers. The environment of an atom reaches `receptive_field`.
- `forward(vectors, centers, neighbors, types, n_centers) -> (descriptor, rotation)`: vectors [n_pairs, 3] shorter than
  the cutoff (Angstrom), centers [n_pairs] ascending, neighbors [n_pairs] and types [n_all] whose first n_centers atoms
  are the centres. descriptor [n_centers, dim_out] does not change with rotations of the frame; each row a of
  rotation [n_centers, dim_rotation, 3] turns like a vector, which is what dipoles and polarisabilities are made of.
- `randomise(seed)`; `environments()`: the Environment modules whose davg and dstd the statistics fill.
- `serialize() -> tree` and `cls.deserialize(tree, type_map)`: the entry `descriptor` of the neutral tree.

Those whose network is a function of one scalar for given types can train on nodes (`deepmd.nn.nodes`) and offer:

- `node_parts()`: the modules that do, each with a function that makes the arguments of its `forward` beyond the usual.
- each module: `node_shape()`, or None where this one cannot; `node_values(t_i, types_j, s, *more)`, the networks at
  radial entries s [n, 1], [n_groups, n_types_j, n, M]; and `of_sums(sums [n_centers, rows, M])`, the rest of `forward`.
  Sums over couples: networks at products s of angular parts for couples of types a <= b, b slowest, each of the two
  orders of different types if both count.

Adding one is a file here with a line in FAMILIES, and its schema in `deepmd.config.descriptor`.
"""

from __future__ import annotations

from typing import Any

from deepmd.errors import InputError, ModelError
from deepmd.nn.descriptor.dpa2 import DescriptorDpa2
from deepmd.nn.descriptor.dpa3 import DescriptorDpa3
from deepmd.nn.descriptor.hybrid import DescriptorHybrid
from deepmd.nn.descriptor.loc_frame import DescriptorLocFrame
from deepmd.nn.descriptor.se_a_mask import DescriptorSeAMask
from deepmd.nn.descriptor.se_a_tpe import DescriptorSeATpe
from deepmd.nn.descriptor.se_atten import DescriptorSeAtten, DescriptorSeAttenV2
from deepmd.nn.descriptor.se_e2_a import DescriptorSeE2A
from deepmd.nn.descriptor.se_e2_r import DescriptorSeE2R
from deepmd.nn.descriptor.se_e3 import DescriptorSeE3
from deepmd.nn.descriptor.se_e3_tebd import DescriptorSeE3Tebd

FAMILIES: dict[str, Any] = {
    "se_e2_a": DescriptorSeE2A,
    "se_e2_r": DescriptorSeE2R,
    "se_e3": DescriptorSeE3,
    "se_atten": DescriptorSeAtten,
    "se_atten_v2": DescriptorSeAttenV2,
    "se_e3_tebd": DescriptorSeE3Tebd,
    "dpa2": DescriptorDpa2,
    "dpa3": DescriptorDpa3,
    "se_a_tpe": DescriptorSeATpe,
    "loc_frame": DescriptorLocFrame,
    "se_a_mask": DescriptorSeAMask,
}
ALIASES = {
    "se_a": "se_e2_a",
    "se_r": "se_e2_r",
    "se_t": "se_e3",
    "se_at": "se_e3",
    "se_a_3be": "se_e3",
    "dpa1": "se_atten",
    "se_a_ebd": "se_a_tpe",
}
DESCRIPTORS = {**FAMILIES, **{name: FAMILIES[family] for name, family in ALIASES.items()}}
"""Classes by every name that inputs and trees use; `hybrid` is made of them."""


def build_descriptor(section: dict[str, Any], type_map: list[str]) -> Any:
    """A descriptor with random weights from a normalised section of the input."""
    kind = section["type"]
    if kind == "hybrid":
        parts = [build_descriptor(part, type_map) for part in section["list"]]
        return DescriptorHybrid(section, parts)
    if kind not in DESCRIPTORS:
        raise InputError(f"model/descriptor/type: got {kind!r}, expected hybrid or one of {', '.join(FAMILIES)}")
    descriptor = DESCRIPTORS[kind](section, type_map)
    descriptor.randomise(section.get("seed"))
    if not section.get("trainable", True):
        descriptor.requires_grad_(False)
    return descriptor


def read_descriptor(tree: dict[str, Any], type_map: list[str]) -> Any:
    """A descriptor from the entry `descriptor` of a neutral tree."""
    kind = tree.get("type")
    if kind == "hybrid":
        return DescriptorHybrid({"type": "hybrid"}, [read_descriptor(part, type_map) for part in tree["list"]])
    if kind not in DESCRIPTORS:
        raise ModelError(f"descriptor: got {kind!r}, expected hybrid or one of {', '.join(FAMILIES)}")
    descriptor = DESCRIPTORS[kind].deserialize(tree, type_map)
    if not descriptor.section.get("trainable", True):
        descriptor.requires_grad_(False)
    return descriptor
