"""DPA-3: layers of message passing between atoms, pairs and angles.

    n_i = f(A_i),  e_ij = f(L s_ij) (or L r_ij),  a_ijk = L' cos(ijk) / sqrt(pi);  nlayers of RepflowLayer;  D_i = n_i

Pairs reach as far as e_rcut, angles are those between pairs within a_rcut. Every neighbour counts; e_sel and a_sel are
norms. A call needs whole frames.
Source: Zhang et al., arXiv:2506.01686.
"""

import math
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.activation import Activation
from deepmd.nn.descriptor.repflow import RepflowLayer
from deepmd.nn.descriptor.repformer import linear
from deepmd.nn.layers import PRECISIONS, Dense, stream
from deepmd.nn.ragged import form, partners
from deepmd.nn.rows import Environment, exponential_switch, switch
from deepmd.nn.type_embedding import TypeEmbedding, linear_embedding

TINY = 1e-6  # keeps cosines from the ends of their range
REPFLOW_KEYS = ("n_dim", "e_dim", "a_dim", "nlayers", "e_rcut", "e_rcut_smth", "e_sel", "a_rcut", "a_rcut_smth",
                "a_sel", "a_compress_rate", "a_compress_e_rate", "a_compress_use_split", "n_multi_edge_message",
                "axis_neuron", "update_angle", "update_style", "update_residual", "update_residual_init",
                "fix_stat_std", "optim_update", "smooth_edge_update", "edge_init_use_dist", "use_exp_switch",
                "use_dynamic_sel", "sel_reduce_factor", "sequential_update")  # fmt: skip
COMMON = ("concat_output_tebd", "activation_function", "precision", "exclude_types", "env_protection", "trainable",
          "use_tebd_bias", "use_loc_mapping")  # fmt: skip


class DescriptorDpa3(Environment):
    """Descriptor [n_centers, n_dim (+ n_dim)] with message passing; see the package for the contract."""

    joins_types: Final[bool]
    from_distance: Final[bool]
    mixed_types = True
    passes_messages = True

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        args = section["repflow"]
        shape = {"rcut": args["e_rcut"], "rcut_smth": args["e_rcut_smth"], "set_davg_zero": True,
                 "use_exp_switch": args["use_exp_switch"],
                 **{key: section[key] for key in ("exclude_types", "env_protection") if key in section}}  # fmt: skip
        super().__init__(shape, len(type_map), int(args["e_sel"]))
        self.section = dict(section)
        self.type_map = list(type_map)
        self.dtype = PRECISIONS[section.get("precision", "default")]
        self.fixed_std = float(args["fix_stat_std"])
        if self.fixed_std != 0.0:
            self.dstd.fill_(self.fixed_std)
        self.a_rcut, self.a_rcut_smth = float(args["a_rcut"]), float(args["a_rcut_smth"])
        self.from_distance = bool(args["edge_init_use_dist"])
        self.act = Activation(section["activation_function"])
        self.edge_embd = linear(1, int(args["e_dim"]), self.dtype)
        self.angle_embd = linear(1, int(args["a_dim"]), self.dtype, False)
        layer_args = {**args, "activation_function": section["activation_function"]}
        self.layers = nn.ModuleList([RepflowLayer(layer_args, self.dtype) for _ in range(int(args["nlayers"]))])
        self.type_embedding = linear_embedding({**section, "tebd_dim": args["n_dim"]}, type_map)
        self.joins_types = bool(section.get("concat_output_tebd", False))
        self.sel = [self.n_slots]
        self.receptive_field = self.rcut * len(self.layers)
        self.rotation_scale = self.layers[0].e_norm ** -0.5
        self.dim_rotation = int(args["e_dim"])
        self.dim_out = int(args["n_dim"]) * (2 if self.joins_types else 1)
        self.tiny, self.inverse_root_pi = TINY, 1.0 / math.sqrt(math.pi)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.type_embedding.randomise(seed)
        generator = np.random.default_rng(stream(seed, "layers", 0))
        self.edge_embd.randomise(generator)
        self.angle_embd.randomise(generator)
        for k, layer in enumerate(self.layers):
            layer.randomise(stream(seed, "layers", k + 1))

    @torch.jit.unused
    def environments(self) -> list[Environment]:
        return [] if self.fixed_std != 0.0 else [self]

    def angles(self, vectors: Tensor, centers: Tensor, n_centers: int) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
        """Cosines [n_couples, 1], the edges of each, product of their switches, and the edges that take part."""
        r = torch.linalg.vector_norm(vectors, dim=1)
        near = r < self.a_rcut
        edges = torch.nonzero(near).flatten()
        p, q = partners(centers[edges], n_centers)
        j, k = edges[p], edges[q]
        direction = vectors / (r + self.tiny).unsqueeze(1)
        cosine = (direction[j] * direction[k]).sum(dim=1, keepdim=True) * ((1.0 - self.tiny) * self.inverse_root_pi)
        if self.exponential:
            v = exponential_switch(r, self.a_rcut_smth)
        else:
            v = switch(r, self.a_rcut, self.a_rcut_smth)
        return cosine.to(self.dtype), [j, k], (v[j] * v[k]).unsqueeze(1).to(self.dtype), near.unsqueeze(1)

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, e_dim, 3]; every atom must be a centre."""
        assert types.shape[0] == n_centers, (
            "this model passes messages between atoms: it needs whole frames whose neighbours are owned atoms"
        )
        seen = torch.nonzero(self.keep[types[centers], types[neighbors]] > 0).flatten()
        vectors, centers, neighbors = vectors[seen], centers[seen], neighbors[seen]
        rows = self.rows(vectors, types[centers], types[neighbors]).to(self.dtype)
        h2, w = rows[:, 1:], self.weights(vectors).to(self.dtype).unsqueeze(1)
        table = self.type_embedding()
        node = self.act(table[types])
        if self.from_distance:
            edge = self.edge_embd(torch.linalg.vector_norm(vectors, dim=1, keepdim=True).to(self.dtype))
        else:
            edge = self.act(self.edge_embd(rows[:, :1]))
        cosine, index, v, near = self.angles(vectors, centers, n_centers)
        angle = self.angle_embd(cosine)
        ends = (centers, neighbors)
        for layer in self.layers:
            node, edge, angle = layer((node, edge, angle), ends, h2, w, index, v, near)
        rotation = form(h2 * (w * self.rotation_scale), edge, centers, n_centers)
        if self.joins_types:
            node = torch.cat([node, table[types]], dim=1)
        return node, rotation.transpose(1, 2)

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        return {
            "@class": "Descriptor",
            "type": "dpa3",
            "@version": 2,
            "ntypes": self.n_types,
            "repflow_args": {key: section["repflow"][key] for key in REPFLOW_KEYS},
            "concat_output_tebd": self.joins_types,
            "activation_function": section["activation_function"],
            "precision": "float64" if self.dtype == torch.float64 else "float32",
            "exclude_types": self.exclude_types,
            "env_protection": self.protection,
            "trainable": bool(section.get("trainable", True)),
            "use_econf_tebd": False,
            "use_tebd_bias": bool(section.get("use_tebd_bias", False)),
            "use_loc_mapping": bool(section.get("use_loc_mapping", True)),
            "add_chg_spin_ebd": False,
            "default_chg_spin": None,
            "type_map": self.type_map,
            "type_embedding": self.type_embedding.serialize(),
            "repflow_variable": {
                "edge_embd": self.edge_embd.serialize(),
                "angle_embd": self.angle_embd.serialize(),
                "repflow_layers": [layer.serialize(self.n_types) for layer in self.layers],
                "env_mat": {**self.serialize_shape(), "protection": 0.0},
                "@variables": self.serialize_statistics(),
            },
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorDpa3":
        args = {"sequential_update": False, **tree["repflow_args"]}
        descriptor = cls({**{key: tree[key] for key in COMMON if key in tree}, "repflow": args}, type_map)
        variables = tree["repflow_variable"]
        descriptor.load_statistics(variables["@variables"])
        descriptor.type_embedding = TypeEmbedding.deserialize(tree["type_embedding"], type_map)
        descriptor.edge_embd = Dense.deserialize(variables["edge_embd"])
        descriptor.angle_embd = Dense.deserialize(variables["angle_embd"])
        for layer, entry in zip(descriptor.layers, variables["repflow_layers"], strict=True):
            layer.load(entry)
        return descriptor
