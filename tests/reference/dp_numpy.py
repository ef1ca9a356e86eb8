"""The judge: the energy model with the se_e2_a descriptor in float64 NumPy, with plain loops and no framework.

Every other implementation and every door is compared with this file, so it is written to be read beside the formulas:
one atom at a time, one neighbour at a time, derivatives written out by hand. It reads the neutral tree (see
``deepmd.exchange``). Lengths in Angstrom, energies in eV; ``virial[a][b] = sum_k F_k[a] r_k[b] = -dE/d(strain_ab)``.

Neighbours are a ragged sum. A model of this family is defined by ``sel[t]`` slots per neighbour type t, of which the
empty ones still contribute a constant row; here these rows are added in closed form, ``sel[t] - n_t`` of them, where
n_t is the number of real neighbours of type t. Where n_t > sel[t] the number is negative, which continues the formula
smoothly.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, exp, sqrt

import numpy as np

VARIABLES = "@variables"

# ------------------------------------------------------------------------------------------------------- networks


def sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def gelu(x):
    """Value and derivative of the tanh form of GELU."""
    c = sqrt(2.0 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3 * 0.044715 * x * x)


def silu(x):
    s = sigmoid(x)
    return x * s, s + x * s * (1.0 - s)


def silut(x, threshold):
    """SiLU below the threshold; above it a tanh that continues value and slope."""
    s = 1.0 / (1.0 + exp(-threshold))
    slope = s + threshold * s * (1.0 - s)
    value, derivative = silu(x)
    t = np.tanh(slope * (x - threshold))
    above = x >= threshold
    return np.where(above, t + threshold * s, value), np.where(above, slope * (1.0 - t * t), derivative)


def activation(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Value and derivative of an activation function."""
    name = name.lower()
    if name == "tanh":
        y = np.tanh(x)
        return y, 1.0 - y * y
    if name == "relu":
        return np.maximum(x, 0.0), (x > 0.0) * 1.0
    if name == "relu6":
        return np.clip(x, 0.0, 6.0), ((x > 0.0) & (x < 6.0)) * 1.0
    if name == "softplus":
        return np.logaddexp(0.0, x), sigmoid(x)
    if name == "sigmoid":
        y = sigmoid(x)
        return y, y * (1.0 - y)
    if name in ("gelu", "gelu_tf"):
        return gelu(x)
    if name == "silu":
        return silu(x)
    if name.startswith("silut"):
        return silut(x, float(name.partition(":")[2] or 3.0))
    if name in ("none", "linear"):
        return x, np.ones_like(x)
    raise ValueError(f"unknown activation function {name}")


class Layer:
    """y = act(x w + b) * idt + skip, where the skip is x, or [x, x], if the widths allow it."""

    def __init__(self, tree: dict):
        variables = tree[VARIABLES]
        self.w = np.asarray(variables["w"], dtype=float)
        self.b = None if variables.get("b") is None else np.asarray(variables["b"], dtype=float).ravel()
        self.idt = None if variables.get("idt") is None else np.asarray(variables["idt"], dtype=float).ravel()
        self.name = tree["activation_function"]
        self.resnet = tree["resnet"]

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Value [n_out] and Jacobian dy/dx [n_out, n_in]."""
        n_in, n_out = self.w.shape
        z = x @ self.w if self.b is None else x @ self.w + self.b
        y, slope = activation(self.name, z)
        if self.idt is not None:
            y, slope = y * self.idt, slope * self.idt
        jacobian = slope[:, None] * self.w.T
        if self.resnet and n_out == n_in:
            y, jacobian = y + x, jacobian + np.eye(n_in)
        elif self.resnet and n_out == 2 * n_in:
            y, jacobian = y + np.concatenate([x, x]), jacobian + np.vstack([np.eye(n_in), np.eye(n_in)])
        return y, jacobian


class Network:
    def __init__(self, tree: dict):
        self.layers = [Layer(entry) for entry in tree["layers"]]

    def forward(self, x: np.ndarray, tangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Output [n_out] and its derivative along ``tangent`` [n_in]."""
        for layer in self.layers:
            x, jacobian = layer(x)
            tangent = jacobian @ tangent
        return x, tangent

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Output of a net with one output, and its gradient [n_in]."""
        jacobians = []
        for layer in self.layers:
            x, jacobian = layer(x)
            jacobians.append(jacobian)
        gradient = np.ones(1)
        for jacobian in reversed(jacobians):
            gradient = gradient @ jacobian
        return float(x[0]), gradient


# ------------------------------------------------------------------------------------------------------- geometry


def perpendicular_heights(cell: np.ndarray) -> np.ndarray:
    """Distances between opposite faces, [3]."""
    volume = abs(np.linalg.det(cell))
    return np.array([volume / np.linalg.norm(np.cross(cell[(k + 1) % 3], cell[(k + 2) % 3])) for k in range(3)])


def complete_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The cell with zero vectors of open directions replaced by unit vectors normal to the others."""
    cell = cell.copy()
    for k in range(3):
        if not pbc[k] and not cell[k].any():
            others = np.array([cell[m] for m in range(3) if m != k and cell[m].any()]).reshape(-1, 3)
            cell[k] = np.linalg.svd(others)[2][-1] if len(others) else np.eye(3)[k]
    return cell


def neighbors(positions: np.ndarray, cell, pbc, rcut: float) -> list[list[tuple[int, np.ndarray]]]:
    """For every atom i the pairs (j, r_j + shift . cell - r_i) closer than rcut, by trying every image.

    positions [n, 3]; cell [3, 3] or None; pbc [3] flags or None (periodic everywhere if there is a cell).
    """
    n = len(positions)
    shifts = [np.zeros(3)]
    if cell is not None:
        cell = np.asarray(cell, dtype=float).reshape(3, 3)
        pbc = np.array([True] * 3 if pbc is None else pbc, dtype=bool)
        cell = complete_cell(cell, pbc)
        fractional = positions @ np.linalg.inv(cell)
        span = np.ptp(fractional, axis=0) if n else np.zeros(3)
        reach = [ceil(rcut / h + s) if p else 0 for h, s, p in zip(perpendicular_heights(cell), span, pbc, strict=True)]
        shifts = [np.array(m) @ cell for m in itertools.product(*(range(-k, k + 1) for k in reach))]
    found: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(n)]
    for i in range(n):
        for shift in shifts:
            vectors = positions + shift - positions[i]
            distances = np.sqrt((vectors**2).sum(axis=1))
            for j in np.flatnonzero(distances < rcut):
                if j != i or shift.any():
                    found[i].append((int(j), vectors[j]))
    return found


def switch(r: float, rcut_smth: float, rcut: float) -> tuple[float, float]:
    """The weight that falls from 1 to 0 between rcut_smth and rcut, and its derivative."""
    if r < rcut_smth:
        return 1.0, 0.0
    if r >= rcut:
        return 0.0, 0.0
    width = rcut - rcut_smth
    u = (r - rcut_smth) / width
    weight = u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0
    return weight, -30.0 * u**2 * (1.0 - u) ** 2 / width


def environment_row(vector: np.ndarray, rcut_smth: float, rcut: float, protection: float):
    """The raw row (s, s x/q, s y/q, s z/q) with s = w(r)/q, q = r + protection [4], and d row/d vector [4, 3]."""
    r = float(np.sqrt(vector @ vector))
    weight, slope = switch(r, rcut_smth, rcut)
    q = r + protection
    unit = vector / r
    row = np.concatenate([[weight / q], weight / q**2 * vector])
    jacobian = np.empty((4, 3))
    jacobian[0] = (slope / q - weight / q**2) * unit
    jacobian[1:] = weight / q**2 * np.eye(3) + np.outer(vector, (slope / q**2 - 2.0 * weight / q**3) * unit)
    return row, jacobian


# ---------------------------------------------------------------------------------------------------------- model


@dataclass
class Descriptor:
    """se_e2_a: D = T T[:axis]^T with T = (1/N) sum_j G(s_ij) (x) R_ij, N = sum(sel)."""

    rcut: float
    rcut_smth: float
    sel: list[int]
    axis: int
    protection: float
    one_side: bool
    exclude: set[tuple[int, int]]
    mean: np.ndarray  # [n_types, 4]
    width: np.ndarray  # [n_types, 4]
    nets: list[Network]

    @classmethod
    def from_tree(cls, tree: dict) -> Descriptor:
        if tree["type"] != "se_e2_a":
            raise ValueError(f"the judge knows se_e2_a only, got {tree['type']}")
        variables = tree[VARIABLES]
        exclude = {tuple(pair) for pair in tree.get("exclude_types") or []}
        return cls(
            tree["rcut"], tree["rcut_smth"], list(tree["sel"]), tree["axis_neuron"], tree.get("env_protection", 0.0),
            tree["type_one_side"], exclude | {pair[::-1] for pair in exclude},
            np.asarray(variables["davg"], dtype=float)[:, 0], np.asarray(variables["dstd"], dtype=float)[:, 0],
            [Network(entry) for entry in tree["embeddings"]["networks"]],
        )  # fmt: skip

    def net(self, t_i: int, t_j: int) -> Network:
        return self.nets[t_j if self.one_side else t_i + t_j * len(self.sel)]

    def embed(self, t_i: int, t_j: int, s: float) -> tuple[np.ndarray, np.ndarray]:
        """G(s) and dG/ds, both [M]."""
        return self.net(t_i, t_j).forward(np.array([s]), np.ones(1))

    def phantoms(self, t_i: int, counts: np.ndarray) -> np.ndarray:
        """What the sel[t] - counts[t] empty slots of each type add to the sum, [M, 4]."""
        row = -self.mean[t_i] / self.width[t_i]
        total = 0.0
        for t_j, slots in enumerate(self.sel):
            g, _ = self.embed(t_i, t_j, row[0])
            total = total + (slots - counts[t_j]) * np.outer(g, row)
        return total

    def matrix(self, t_i: int, around: list[tuple[int, np.ndarray]]):
        """T [M, 4] and, for each neighbour (type, vector), what its derivative needs: (row, d row/d vector, G, G')."""
        counts = np.zeros(len(self.sel), dtype=int)
        total = 0.0
        parts = []
        for t_j, vector in around:
            counts[t_j] += 1
            if (t_i, t_j) in self.exclude:  # the slot is occupied, the row is zero
                parts.append(None)
                continue
            raw, jacobian = environment_row(vector, self.rcut_smth, self.rcut, self.protection)
            row, jacobian = (raw - self.mean[t_i]) / self.width[t_i], jacobian / self.width[t_i][:, None]
            g, slope = self.embed(t_i, t_j, row[0])
            total = total + np.outer(g, row)
            parts.append((row, jacobian, g, slope))
        total = total + self.phantoms(t_i, counts)
        return total / sum(self.sel), parts

    def pair_gradient(self, grad_t: np.ndarray, part) -> np.ndarray:
        """dE_i/d vector_ij [3] from dE_i/dT [M, 4]."""
        if part is None:
            return np.zeros(3)
        row, jacobian, g, slope = part
        grad_row = g @ grad_t
        grad_row[0] += slope @ grad_t @ row
        return grad_row @ jacobian / sum(self.sel)


@dataclass
class Fitting:
    """Atomic energy from [descriptor, standardised fparam, standardised aparam, case vector]."""

    nets: list[Network]
    mixed_types: bool
    bias: np.ndarray  # [n_types]
    exclude: set[int]
    vacuum: list[bool] | None  # per type: subtract the output for a zero descriptor
    variables: dict
    default_fparam: list[float] | None
    n_fparam: int
    n_aparam: int

    @classmethod
    def from_tree(cls, tree: dict) -> Fitting:
        if tree["type"] != "ener":
            raise ValueError(f"the judge knows the energy fitting only, got {tree['type']}")
        if tree.get("use_aparam_as_mask"):
            raise ValueError("the judge does not know use_aparam_as_mask")
        variables = tree[VARIABLES]
        bias = np.zeros(tree["ntypes"]) if variables.get("bias_atom_e") is None else np.ravel(variables["bias_atom_e"])
        given = [entry is not None for entry in tree.get("atom_ener") or []]
        return cls(
            [Network(entry) for entry in tree["nets"]["networks"]], tree["mixed_types"], bias,
            set(tree.get("exclude_types") or []), given if any(given) else None, variables, tree.get("default_fparam"),
            tree.get("numb_fparam", 0), tree.get("numb_aparam", 0),
        )  # fmt: skip

    def parameters(self, fparam, aparam_i) -> np.ndarray:
        """The standardised parameters that follow the descriptor in the input of the net."""
        parts = []
        if self.n_fparam:
            fparam = self.default_fparam if fparam is None else fparam
            parts.append((np.ravel(fparam) - self.variables["fparam_avg"]) * self.variables["fparam_inv_std"])
        if self.n_aparam:
            parts.append((np.ravel(aparam_i) - self.variables["aparam_avg"]) * self.variables["aparam_inv_std"])
        if self.variables.get("case_embd") is not None:
            parts.append(np.ravel(self.variables["case_embd"]))
        return np.concatenate(parts) if parts else np.zeros(0)

    def removes_vacuum(self, t: int) -> bool:
        """Types beyond the end of the list count as listed; with one net for all types one entry serves all."""
        if self.vacuum is None:
            return False
        return self.mixed_types or t >= len(self.vacuum) or self.vacuum[t]

    def __call__(self, t: int, descriptor: np.ndarray, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Atomic energy and its gradient with respect to the descriptor [M * axis]."""
        if t in self.exclude:
            return 0.0, np.zeros_like(descriptor)
        net = self.nets[0 if self.mixed_types else t]
        energy, gradient = net.value_and_gradient(np.concatenate([descriptor, parameters]))
        if self.removes_vacuum(t):
            energy -= net.value_and_gradient(np.concatenate([np.zeros_like(descriptor), parameters]))[0]
        return energy + self.bias[t], gradient[: len(descriptor)]


class Judge:
    """Evaluates a neutral tree. ``evaluate`` is all that the tests call."""

    def __init__(self, tree: dict):
        model = tree["model"] if "model" in tree else tree
        if model["type"] != "standard":
            raise ValueError(f"the judge knows standard models only, got {model['type']}")
        self.type_map = list(model["type_map"])
        self.out_bias = np.asarray(model[VARIABLES]["out_bias"], dtype=float)[0, :, 0]
        self.excluded_centers = set(model.get("atom_exclude_types") or [])
        pairs = {tuple(pair) for pair in model.get("pair_exclude_types") or []}
        self.absent_pairs = pairs | {pair[::-1] for pair in pairs}
        self.descriptor = Descriptor.from_tree(model["descriptor"])
        self.fitting = Fitting.from_tree(model["fitting"])
        self.rcut = self.descriptor.rcut

    def neighbor_counts(self, positions, types, cell=None, pbc=None) -> np.ndarray:
        """Real neighbours of each type for every atom, [n, n_types]; beyond ``sel`` a padded program drops some."""
        counts = np.zeros((len(types), len(self.type_map)), dtype=int)
        for i, around in enumerate(neighbors(np.asarray(positions, dtype=float), cell, pbc, self.rcut)):
            for j, _ in around:
                counts[i, types[j]] += 1
        return counts

    def evaluate(self, positions, types, cell=None, pbc=None, fparam=None, aparam=None) -> dict:
        """Energy of one frame and its derivatives.

        positions [n, 3]; types [n] indices into type_map; cell [3, 3] rows are vectors, or None; pbc [3] or None;
        fparam [dim_fparam]; aparam [n, dim_aparam]. Returns energy (float), forces [n, 3], virial [3, 3],
        atom_energy [n], atom_virial [n, 3, 3].
        """
        positions = np.asarray(positions, dtype=float).reshape(-1, 3)
        n = len(positions)
        atom_energy, forces, atom_virial = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 3, 3))
        for i, around in enumerate(neighbors(positions, cell, pbc, self.rcut)):
            t_i = int(types[i])
            around = [(j, v) for j, v in around if (t_i, int(types[j])) not in self.absent_pairs]
            aparam_i = None if aparam is None else np.asarray(aparam, dtype=float).reshape(n, -1)[i]
            atom_energy[i], gradients = self.atom(t_i, [(int(types[j]), v) for j, v in around], fparam, aparam_i)
            for (j, vector), gradient in zip(around, gradients, strict=True):
                forces[i] += gradient
                forces[j] -= gradient
                atom_virial[j] -= np.outer(gradient, vector)
        return {
            "energy": float(atom_energy.sum()), "forces": forces, "virial": atom_virial.sum(axis=0),
            "atom_energy": atom_energy, "atom_virial": atom_virial,
        }  # fmt: skip

    def atom(self, t_i: int, around: list[tuple[int, np.ndarray]], fparam, aparam_i):
        """Energy of one atom and dE_i/d vector_ij [3] for each of its neighbours (type, vector)."""
        if t_i in self.excluded_centers:
            return 0.0, [np.zeros(3)] * len(around)
        t, parts = self.descriptor.matrix(t_i, around)
        axis = self.descriptor.axis
        d = t @ t[:axis].T
        energy, grad_d = self.fitting(t_i, d.ravel(), self.fitting.parameters(fparam, aparam_i))
        grad_d = grad_d.reshape(d.shape)
        grad_t = grad_d @ t[:axis]
        grad_t[:axis] += grad_d.T @ t
        return energy + self.out_bias[t_i], [self.descriptor.pair_gradient(grad_t, part) for part in parts]
