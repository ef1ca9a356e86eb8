"""Small models with random weights as neutral trees, and small frames: what the tests of every door are fed.

Weights are of order one and the statistics are far from trivial, so that a dropped term, a swapped index or a forgotten
phantom row shows in the first digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Options:
    """What a tiny model can vary in; the defaults are a two-element model with distinct nets for each pair."""

    type_map: list[str] = field(default_factory=lambda: ["O", "H"])
    sel: list[int] = field(default_factory=lambda: [20, 30])
    rcut: float = 4.0
    rcut_smth: float = 0.5
    neuron: list[int] = field(default_factory=lambda: [4, 8, 8])
    axis_neuron: int = 3
    fitting_neuron: list[int] = field(default_factory=lambda: [6, 6])
    activation: str = "tanh"
    embedding_dt: bool = False
    fitting_dt: bool = True
    one_side: bool = False
    descriptor_exclude: list[list[int]] = field(default_factory=list)
    pair_exclude: list[list[int]] = field(default_factory=list)
    atom_exclude: list[int] = field(default_factory=list)
    protection: float = 0.0
    n_fparam: int = 0
    n_aparam: int = 0
    default_fparam: list[float] | None = None
    atom_ener: list[float | None] | None = None
    fitting_bias: bool = False
    precision: str = "float64"
    davg_zero: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        # Such models jump where an excluded neighbour takes a slot from a phantom row; the formula is not to blame.
        if self.descriptor_exclude and not self.davg_zero and (self.one_side or self.activation != "tanh"):
            raise ValueError("excluded pairs with phantom rows that are not zero: set davg_zero")


def make_tree(options: Options | None = None) -> dict:
    """A complete neutral tree, with the keys and the order of keys of a real file."""
    o = options or Options()
    rng = np.random.default_rng(o.seed)
    n_types = len(o.type_map)
    model = {
        "type_map": o.type_map,
        "atom_exclude_types": o.atom_exclude,
        "pair_exclude_types": o.pair_exclude,
        "rcond": None,
        "preset_out_bias": None,
        "@variables": {"out_bias": rng.normal(-3.0, 1.0, (1, n_types, 1)), "out_std": np.ones((1, n_types, 1))},
        "@class": "Model",
        "type": "standard",
        "@version": 2,
        "descriptor": _descriptor(o, rng),
        "fitting": _fitting(o, rng),
    }
    return {"model": model, "model_def_script": _script(o), "backend": "PyTorch", "@variables": {}}


def _layers(o: Options, rng, widths: list[int], timestep: bool, linear_end: bool) -> list[dict]:
    dtype = np.dtype(o.precision)
    layers = []
    for k, (n_in, n_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        last = linear_end and k == len(widths) - 2
        has_idt = timestep and not last and n_out in (n_in, 2 * n_in)
        variables = {
            "w": rng.normal(0.0, 1.0 / np.sqrt(n_in), (n_in, n_out)).astype(dtype),
            "b": rng.normal(0.0, 0.5, n_out).astype(dtype),
            "idt": rng.normal(0.4, 0.1, n_out).astype(dtype) if has_idt else None,
        }
        layers.append({
            "@class": "Layer", "@version": 2, "bias": True, "use_timestep": has_idt,
            "activation_function": "none" if last else o.activation, "resnet": not last, "precision": o.precision,
            "trainable": True, "@variables": variables,
        })  # fmt: skip
    return layers


def _descriptor(o: Options, rng) -> dict:
    n_types, n_slots = len(o.type_map), sum(o.sel)
    networks = []
    excluded = {tuple(pair) for pair in o.descriptor_exclude} | {tuple(pair[::-1]) for pair in o.descriptor_exclude}
    for k in range(n_types if o.one_side else n_types**2):
        networks.append({
            "@class": "EmbeddingNetwork", "@version": 2, "in_dim": 1, "neuron": o.neuron,
            "activation_function": o.activation, "resnet_dt": o.embedding_dt, "bias": True, "precision": o.precision,
            "layers": _layers(o, rng, [1, *o.neuron], o.embedding_dt, linear_end=False),
        })  # fmt: skip
        if not o.one_side and divmod(k, n_types) in excluded:  # real files hold zeros there
            for layer in networks[-1]["layers"]:
                layer["@variables"] = {name: a if a is None else 0.0 * a for name, a in layer["@variables"].items()}
    mean = np.zeros((n_types, 1, 4))
    if not o.davg_zero:
        mean[:, 0, 0] = rng.uniform(0.05, 0.3, n_types)
    width = rng.uniform(0.2, 0.5, (n_types, 1, 2))[:, :, [0, 1, 1, 1]]
    env_mat = {"rcut": o.rcut, "rcut_smth": o.rcut_smth, "protection": o.protection, "use_exp_switch": False}
    embeddings = {
        "@class": "NetworkCollection", "@version": 1, "ndim": 1 if o.one_side else 2, "ntypes": n_types,
        "network_type": "embedding_network", "networks": networks,
    }  # fmt: skip
    return {
        "@class": "Descriptor", "type": "se_e2_a", "@version": 2, "rcut": o.rcut, "rcut_smth": o.rcut_smth,
        "sel": o.sel, "neuron": o.neuron, "axis_neuron": o.axis_neuron, "resnet_dt": o.embedding_dt, "trainable": True,
        "type_one_side": o.one_side, "exclude_types": o.descriptor_exclude, "env_protection": o.protection,
        "set_davg_zero": o.davg_zero, "activation_function": o.activation, "precision": o.precision, "spin": None,
        "env_mat": env_mat, "embeddings": embeddings,
        "@variables": {"davg": np.repeat(mean, n_slots, axis=1), "dstd": np.repeat(width, n_slots, axis=1)},
        "type_map": o.type_map,
    }  # fmt: skip


def _fitting(o: Options, rng) -> dict:
    n_types, dim = len(o.type_map), o.neuron[-1] * o.axis_neuron
    n_in = dim + o.n_fparam + o.n_aparam
    networks = []
    for _ in range(n_types):
        networks.append({
            "@class": "FittingNetwork", "@version": 1, "in_dim": n_in, "out_dim": 1, "neuron": o.fitting_neuron,
            "activation_function": o.activation, "resnet_dt": o.fitting_dt, "precision": o.precision, "bias_out": True,
            "layers": _layers(o, rng, [n_in, *o.fitting_neuron, 1], o.fitting_dt, linear_end=True),
        })  # fmt: skip
    nets = {
        "@class": "NetworkCollection", "@version": 1, "ndim": 1, "ntypes": n_types,
        "network_type": "fitting_network", "networks": networks,
    }  # fmt: skip
    variables = {
        "bias_atom_e": rng.normal(0.0, 1.0, (n_types, 1)) if o.fitting_bias else np.zeros((n_types, 1)),
        "case_embd": None,
        "fparam_avg": rng.normal(0.5, 0.2, o.n_fparam) if o.n_fparam else None,
        "fparam_inv_std": rng.uniform(1.0, 3.0, o.n_fparam) if o.n_fparam else None,
        "aparam_avg": rng.normal(0.5, 0.2, o.n_aparam) if o.n_aparam else None,
        "aparam_inv_std": rng.uniform(1.0, 3.0, o.n_aparam) if o.n_aparam else None,
    }
    return {
        "@class": "Fitting", "@version": 4, "var_name": "energy", "ntypes": n_types, "dim_descrpt": dim,
        "neuron": o.fitting_neuron, "resnet_dt": o.fitting_dt, "numb_fparam": o.n_fparam, "numb_aparam": o.n_aparam,
        "dim_case_embd": 0, "default_fparam": o.default_fparam, "rcond": None, "activation_function": o.activation,
        "precision": o.precision, "mixed_types": False, "exclude_types": [], "nets": nets, "@variables": variables,
        "type_map": o.type_map, "tot_ener_zero": False, "trainable": [True] * (len(o.fitting_neuron) + 1),
        "layer_name": None, "use_aparam_as_mask": False, "spin": None, "type": "ener", "dim_out": 1,
        "atom_ener": o.atom_ener,
    }  # fmt: skip


def _script(o: Options) -> dict:
    descriptor = {
        "type": "se_e2_a", "sel": o.sel, "rcut": o.rcut, "rcut_smth": o.rcut_smth, "neuron": o.neuron,
        "axis_neuron": o.axis_neuron, "type_one_side": o.one_side, "resnet_dt": o.embedding_dt,
        "activation_function": o.activation, "precision": o.precision, "exclude_types": o.descriptor_exclude,
        "env_protection": o.protection, "set_davg_zero": o.davg_zero,
    }  # fmt: skip
    fitting = {
        "type": "ener", "neuron": o.fitting_neuron, "resnet_dt": o.fitting_dt, "activation_function": o.activation,
        "precision": o.precision, "numb_fparam": o.n_fparam, "numb_aparam": o.n_aparam,
        "default_fparam": o.default_fparam, "atom_ener": o.atom_ener or [],
    }  # fmt: skip
    extra = {"pair_exclude_types": o.pair_exclude, "atom_exclude_types": o.atom_exclude}
    return {"type_map": o.type_map, "descriptor": descriptor, "fitting_net": fitting, **extra}


# --------------------------------------------------------------------------------------------------------- frames


@dataclass
class Frame:
    """positions [n, 3] Angstrom, types [n], cell [3, 3] or None, pbc [3] or None (periodic if there is a cell)."""

    positions: np.ndarray
    types: np.ndarray
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] | None = None
    fparam: np.ndarray | None = None
    aparam: np.ndarray | None = None

    def as_input(self) -> dict:
        """The keyword arguments of an evaluate function."""
        return {name: getattr(self, name) for name in ("positions", "types", "cell", "pbc", "fparam", "aparam")}


def jittered(cell, counts, n_types, rng, amplitude=0.25) -> Frame:
    """Atoms of random type near the points of a grid of ``counts`` points in ``cell``, never closer than about 1 A."""
    cell = np.asarray(cell, dtype=float)
    grid = np.stack(np.meshgrid(*[np.arange(k) / k for k in counts], indexing="ij"), axis=-1).reshape(-1, 3)
    positions = grid @ cell + rng.uniform(-amplitude, amplitude, (len(grid), 3))
    return Frame(positions, rng.integers(0, n_types, len(grid)), cell)


def make_frames(n_types: int = 2, seed: int = 7) -> dict[str, Frame]:
    """One frame of each shape that has broken programs before; the cutoff is thought to be about 4 Angstrom."""
    rng = np.random.default_rng(seed)
    bulk = jittered(np.diag([9.1, 9.6, 10.3]), (4, 4, 4), n_types, rng)
    skewed = jittered([[7.0, 0, 0], [3.4, 6.1, 0], [-3.1, 2.7, 6.6]], (3, 3, 3), n_types, rng)
    tiny = jittered([[2.9, 0, 0], [0.4, 3.1, 0], [-0.3, 0.5, 2.7]], (1, 1, 2), n_types, rng, 0.1)
    slab = jittered(np.diag([7.5, 8.0, 6.0]), (3, 3, 2), n_types, rng)
    slab.pbc = (True, True, False)
    wire = jittered(np.diag([6.0, 6.0, 7.0]), (2, 2, 3), n_types, rng)
    wire.pbc = (False, False, True)
    molecule = jittered(np.diag([5.0, 5.0, 5.0]), (2, 2, 2), n_types, rng)
    molecule.cell = None
    far = np.array([[0.0, 0, 0], [1.1, 0.2, 0.1], [30.0, 0, 0]])
    outside = jittered(np.diag([8.0, 8.2, 8.4]), (3, 3, 3), n_types, rng)
    outside.positions = outside.positions + rng.integers(-2, 3, (len(outside.positions), 3)) @ outside.cell
    return {
        "bulk": bulk,
        "skewed": skewed,
        "smaller than the cutoff": tiny,
        "slab": slab,
        "wire": wire,
        "molecule": molecule,
        "one atom": Frame(np.array([[0.3, -0.2, 0.9]]), np.array([n_types - 1])),
        "one atom in a cell": Frame(np.array([[0.3, -0.2, 0.9]]), np.array([0]), np.diag([3.0, 3.2, 3.5])),
        "no neighbours": Frame(far, np.arange(3) % n_types),
        "outside the cell": outside,
    }
