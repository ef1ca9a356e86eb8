"""The models that the LAMMPS tests run, with random weights."""

from __future__ import annotations

from reference.tiny_models import Options

MODELS = {
    "plain": Options(),
    "permuted": Options(type_map=["H", "O"]),
    "other": Options(seed=2),
    "third": Options(seed=3),
    "hydrogen": Options(type_map=["H"], sel=[20]),
    "metals": Options(type_map=["Co", "Ni"]),
    "fparam": Options(n_fparam=2, seed=5),
    "default_fparam": Options(n_fparam=1, default_fparam=[0.3], seed=6),
    "aparam": Options(n_fparam=1, n_aparam=1, seed=7),
    "long": Options(rcut=4.5),
}
