"""The dpdata driver: ``dpdata.System(...).predict("graph.pth", driver="dp")``; dpdata loads it by its entry point."""

from __future__ import annotations

from typing import Any

import numpy as np
from dpdata.driver import Driver

from deepmd.errors import InputError


@Driver.register("dp")
@Driver.register("deepmd")
@Driver.register("deepmd-kit")
@Driver.register("deepmd-engine")
class DPDriver(Driver):
    """Labels dpdata systems with energies, forces and, where there is a cell, virials.

    dp: file of a model, or an open `deepmd.infer.DeepPot`.
    """

    def __init__(self, dp: Any) -> None:
        from deepmd.infer import DeepPot

        self.dp = dp if isinstance(dp, DeepPot) else DeepPot(dp)

    def label(self, data: dict[str, Any]) -> dict[str, Any]:
        """The data of a system with ``energies`` (eV), ``forces`` (eV/A) and ``virials`` (eV) added."""
        type_map = self.dp.get_type_map()
        unknown = [name for name in data["atom_names"] if name not in type_map]
        used = {data["atom_names"][t] for t in np.unique(data["atom_types"])}
        if used & set(unknown):
            raise InputError(f"the model does not know {', '.join(unknown)}; it knows {', '.join(type_map)}")
        index = np.array([type_map.index(name) if name in type_map else -1 for name in data["atom_names"]])
        cells = None if data.get("nopbc", False) else data["cells"]
        energy, force, virial = self.dp.eval(data["coords"], cells, index[data["atom_types"]], hessian=False)
        labels = {"energies": energy[:, 0], "forces": force}
        if cells is not None:
            labels["virials"] = virial.reshape(-1, 3, 3)
        return {**data, **labels}
