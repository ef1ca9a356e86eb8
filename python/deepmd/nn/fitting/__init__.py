"""Fittings, one file each: from descriptors to the numbers of an atom.

A fitting is made from its input section and `Inputs`; its class attribute `kind` says what it predicts. Those for
scalars are called with (descriptor, types_i, fparam, aparam), those for tensors also take the descriptor's equivariant
output: (descriptor, equivariant, types_i, fparam, aparam). Adding one means a file here, a line in FITTINGS, and its
schema in `deepmd.config.fitting`.
"""

from deepmd.nn.fitting.dipole import DipoleFitting
from deepmd.nn.fitting.dos import DosFitting
from deepmd.nn.fitting.energy import EnergyFitting
from deepmd.nn.fitting.network import Inputs
from deepmd.nn.fitting.polar import PolarFitting
from deepmd.nn.fitting.property import PropertyFitting

FITTINGS = {
    "ener": EnergyFitting,
    "dipole": DipoleFitting,
    "polar": PolarFitting,
    "dos": DosFitting,
    "property": PropertyFitting,
}

__all__ = ["FITTINGS", "Inputs"]
