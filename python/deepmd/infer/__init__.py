"""Evaluating frozen models from Python.

from deepmd.infer import DeepPot
energy, forces, virial = DeepPot("graph.pth").eval(positions, cells, types)
"""

from deepmd.deviation import calc_model_devi
from deepmd.infer.deep_dipole import DeepDipole
from deepmd.infer.deep_dos import DeepDOS
from deepmd.infer.deep_eval import DeepEval, DeepPotential
from deepmd.infer.deep_polar import DeepGlobalPolar, DeepPolar
from deepmd.infer.deep_pot import DeepPot
from deepmd.infer.deep_property import DeepProperty
from deepmd.infer.deep_spin import DeepSpin

__all__ = [
    "DeepDOS",
    "DeepDipole",
    "DeepEval",
    "DeepGlobalPolar",
    "DeepPolar",
    "DeepPot",
    "DeepPotential",
    "DeepProperty",
    "DeepSpin",
    "calc_model_devi",
]
