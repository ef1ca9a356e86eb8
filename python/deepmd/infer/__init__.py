"""Evaluating frozen models from Python.

from deepmd.infer import DeepPot
energy, forces, virial = DeepPot("graph.pth").eval(positions, cells, types)
"""

from deepmd.deviation import calc_model_devi
from deepmd.infer.deep_eval import DeepEval, DeepPotential
from deepmd.infer.deep_pot import DeepPot

__all__ = ["DeepEval", "DeepPot", "DeepPotential", "calc_model_devi"]
