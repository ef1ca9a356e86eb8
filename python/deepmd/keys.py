"""The vocabulary of data fields: name, file stem, shape, unit, default and meaning, for all readers."""

from __future__ import annotations

from dataclasses import dataclass

THREE_N = "3n"
"""A dimension of three times the number of atoms, known only when the system is."""

Dimension = int | str | None


@dataclass(frozen=True)
class Field:
    """One quantity that a data set can hold.

    `shape` is what one frame (or one atom of one frame, if `per_atom`) carries; None is a dimension that the model or
    the file decides. `default` fills frames whose set has no such file.
    """

    name: str
    stem: str
    shape: tuple[Dimension, ...]
    per_atom: bool
    unit: str
    meaning: str
    default: float = 0.0
    integer: bool = False
    selectable: bool = False

    def width(self, n_atoms: int, free: int = 1) -> int:
        """Number of values of one frame when each open dimension counts `free`."""
        total = n_atoms if self.per_atom else 1
        for size in self.shape:
            total *= 3 * n_atoms if size == THREE_N else free if size is None else int(size)
        return total

    @property
    def open(self) -> bool:
        """True when one dimension is left to the model or the file."""
        return None in self.shape

    def frame_shape(self, n_atoms: int) -> tuple[int, ...]:
        """Shape of one frame, the open dimension written as -1."""
        sizes = tuple(3 * n_atoms if s == THREE_N else -1 if s is None else int(s) for s in self.shape)
        return (n_atoms, *sizes) if self.per_atom else sizes

    @property
    def stems(self) -> tuple[str, ...]:
        """File stems under which the field may be found, the usual one first: `atom_X` and `atomic_X` are the same."""
        for prefix, other in (("atomic_", "atom_"), ("atom_", "atomic_")):
            if self.stem.startswith(prefix):
                return (self.stem, other + self.stem[len(prefix) :])
        return (self.stem,)


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


FIELDS: dict[str, Field] = _table(
    Field("positions", "coord", (3,), True, "A", "Cartesian positions of the atoms"),
    Field("cell", "box", (3, 3), False, "A", "cell vectors a, b, c as rows"),
    Field("types", "real_atom_types", (), True, "", "types per frame of mixed data, -1 for a virtual atom", -1, True),
    Field("numb_copy", "numb_copy", (), False, "", "how often a frame is repeated", 1, True),
    Field("energy", "energy", (), False, "eV", "potential energy"),
    Field("force", "force", (3,), True, "eV/A", "forces on the atoms"),
    Field("virial", "virial", (3, 3), False, "eV", "virial -dE/d(strain), not divided by the volume"),
    Field("atom_ener", "atom_ener", (), True, "eV", "energy of each atom"),
    Field("atom_pref", "atom_pref", (), True, "", "weight of each atom's force in the loss", 1.0),
    Field("atom_ener_coeff", "atom_ener_coeff", (), True, "", "factor of each atomic energy in the total", 1.0),
    Field("fparam", "fparam", (None,), False, "any", "frame parameters"),
    Field("aparam", "aparam", (None,), True, "any", "atomic parameters"),
    Field("dipole", "dipole", (3,), False, "any", "dipole of the frame"),
    Field("atomic_dipole", "atomic_dipole", (3,), True, "any", "dipole of each atom", selectable=True),
    Field("polarizability", "polarizability", (3, 3), False, "any", "polarizability of the frame"),
    Field("atomic_polarizability", "atomic_polarizability", (3, 3), True, "any", "of each atom", selectable=True),
    Field("atomic_weight", "atomic_weight", (), True, "", "weight of each atom in a tensor loss", 1.0),
    Field("dos", "dos", (None,), False, "any", "density of states on a grid"),
    Field("atom_dos", "atom_dos", (None,), True, "any", "density of states of each atom"),
    Field("hessian", "hessian", (THREE_N, THREE_N), False, "eV/A^2", "full matrix of second derivatives"),
    Field("spin", "spin", (3,), True, "mu_B", "spin of each atom, zero for atoms without"),
    Field("force_mag", "force_mag", (3,), True, "eV/mu_B", "magnetic force -dE/d(spin)"),
    Field("drdq", "drdq", (THREE_N, None), False, "any", "derivative of positions by generalised coordinates"),
    Field("charge_spin", "charge_spin", (2,), False, "", "total charge and spin multiplicity"),
    Field("efield", "efield", (3,), True, "V/A", "electric field at each atom"),
)

GEOMETRY = ("positions", "cell", "types", "numb_copy")
"""Fields that describe frames, as opposed to labels and parameters."""

USUAL_LABELS = ("energy", "force", "virial", "atom_ener", "atom_pref", "atom_ener_coeff")
"""Fields that every batch carries, filled with their default where a set has none."""

_BY_STEM = {stem: field.name for field in FIELDS.values() for stem in field.stems}


def field(name: str) -> Field:
    """The field called `name` (our name, a file stem or an alias); an unknown name is a property of open width."""
    known = FIELDS.get(name) or FIELDS.get(_BY_STEM.get(name, ""))
    if known is not None:
        return known
    return Field(name, name, (None,), name.startswith(("atom_", "atomic_")), "any", "property named by the user")


def canonical(stem: str) -> str:
    """Our name of the field that a file stem or alias stands for."""
    return field(stem).name
