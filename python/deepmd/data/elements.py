"""Masses and bond lengths of the elements, for what `dp check` says; names that are no elements have none."""

from __future__ import annotations

_AMU_PER_A3_IN_G_PER_CM3 = 1.66053906660
_NOBLE = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}


def density(elements: dict[str, int], smallest: float, largest: float) -> tuple[float, float] | None:
    """Lowest and highest density (g/cm3) of atoms by name and number in volumes (A^3) from `smallest` to `largest`."""
    from ase.data import atomic_masses, atomic_numbers

    if not all(name in atomic_numbers for name in elements):
        return None
    mass = sum(float(atomic_masses[atomic_numbers[name]]) * count for name, count in elements.items())
    return mass / largest * _AMU_PER_A3_IN_G_PER_CM3, mass / smallest * _AMU_PER_A3_IN_G_PER_CM3


def expected_inverse(first: str, second: str) -> float | None:
    """Sum of the covalent radii (A); None for noble gases and for names that are no elements."""
    from ase.data import atomic_numbers, covalent_radii

    if first in _NOBLE or second in _NOBLE or first not in atomic_numbers or second not in atomic_numbers:
        return None
    return float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])
