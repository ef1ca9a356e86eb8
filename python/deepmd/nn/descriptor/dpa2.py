"""DPA-2: a block like se_atten without attention, then layers in which atoms and pairs tell each other what they know.

    g1_i = L [T_i T_i^T (and the sum over couples, if use_three_body)] (+ L' A_i)
    g2_ij = f(L'' s_ij), h2_ij = R_ij of the second cutoff; nlayers of RepformerLayer; D_i = [g1_i, A_i]

Atoms hear of the features of their neighbours once a layer, so that the energy of an atom depends on atoms as far as
`receptive_field`, and a call needs whole frames.
Source: Zhang et al., npj Comput. Mater. 10, 293 (2024).
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from deepmd.nn.activation import Activation
from deepmd.nn.descriptor.atten_block import AttenBlock, total
from deepmd.nn.descriptor.repformer import RepformerLayer, directed_sum, linear
from deepmd.nn.descriptor.se_e3_tebd import TripleBlock
from deepmd.nn.layers import PRECISIONS, Dense, stream
from deepmd.nn.ragged import dense, slots
from deepmd.nn.rows import Environment
from deepmd.nn.tree import write_networks
from deepmd.nn.type_embedding import TypeEmbedding, linear_embedding

COMMON = ("concat_output_tebd", "precision", "smooth", "exclude_types", "env_protection", "trainable",
          "add_tebd_to_repinit_out", "use_tebd_bias")  # fmt: skip
REPINIT_KEYS = ("rcut", "rcut_smth", "nsel", "neuron", "axis_neuron", "tebd_dim", "tebd_input_mode", "set_davg_zero",
                "activation_function", "resnet_dt", "type_one_side", "use_three_body", "three_body_neuron",
                "three_body_sel", "three_body_rcut", "three_body_rcut_smth")  # fmt: skip
REPFORMER_KEYS = ("rcut", "rcut_smth", "nsel", "nlayers", "g1_dim", "g2_dim", "axis_neuron", "direct_dist",
                  "update_g1_has_conv", "update_g1_has_drrd", "update_g1_has_grrg", "update_g1_has_attn",
                  "update_g2_has_g1g1", "update_g2_has_attn", "update_h2", "attn1_hidden", "attn1_nhead",
                  "attn2_hidden", "attn2_nhead", "attn2_has_gate", "activation_function", "update_style",
                  "update_residual", "update_residual_init", "set_davg_zero", "trainable_ln", "use_sqrt_nnei",
                  "g1_out_conv", "g1_out_mlp", "ln_eps")  # fmt: skip


class Repformers(Environment):
    """The layers with their cutoff, [n_centers, g1_dim] -> [n_centers, g1_dim] and rotation [n_centers, g2_dim, 3]."""

    direct: Final[bool]

    def __init__(self, args: dict[str, Any], n_types: int, smooth: bool, dtype: torch.dtype):
        super().__init__(args, n_types, int(args["nsel"]))
        self.dtype = dtype
        self.direct = bool(args["direct_dist"])
        self.act = Activation(args["activation_function"])
        self.g2_embd = linear(1, int(args["g2_dim"]), dtype)
        n_layers = int(args["nlayers"])
        self.layers = nn.ModuleList([RepformerLayer(args, smooth, k < n_layers - 1, dtype) for k in range(n_layers)])
        self.smooth = smooth

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, g1: Tensor
    ) -> tuple[Tensor, Tensor]:
        types_c, types_j = types[centers], types[neighbors]
        near = (vectors * vectors).sum(dim=1) < self.rcut**2
        seen = torch.nonzero(near & (self.keep[types_c, types_j] > 0)).flatten()
        vectors, centers, neighbors = vectors[seen], centers[seen], neighbors[seen]
        if self.direct:
            distance = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
            rows = torch.cat([distance, vectors], dim=1) / self.rcut
        else:
            rows = self.rows(vectors, types_c[seen], types_j[seen])
        n = g1.shape[0]
        place, n_slots = slots(centers, n)
        n_slots = max(n_slots, 1)
        w = dense(self.weights(vectors).to(self.dtype).unsqueeze(1), place, n, n_slots)
        mask = dense(torch.ones(vectors.shape[0], 1, dtype=self.dtype, device=g1.device), place, n, n_slots)
        table = dense(neighbors.unsqueeze(1), place, n, n_slots).squeeze(2)
        row_table = dense(rows.to(self.dtype), place, n, n_slots)
        g1, g2, h2 = self.act(g1), self.act(self.g2_embd(row_table[:, :, :1])), row_table[:, :, 1:]
        for layer in self.layers:
            g1, g2, h2 = layer(g1, g2, h2, table, mask, w)
        scale = self.layers[0].scale_of_sums(mask.sum(dim=1).flatten())
        return g1, directed_sum(g2, h2, w if self.smooth else mask, scale).transpose(1, 2)


class DescriptorDpa2(nn.Module):
    """Descriptor [n_centers, g1_dim (+ tebd_dim)] with message passing; see the package for the contract."""

    joins_types: Final[bool]
    adds_types: Final[bool]
    has_triples: Final[bool]
    mixed_types = True
    passes_messages = True

    def __init__(self, section: dict[str, Any], type_map: list[str]):
        super().__init__()
        self.section = dict(section)
        self.type_map = list(type_map)
        self.n_types = len(type_map)
        self.dtype = PRECISIONS[section.get("precision", "default")]
        common = {key: section[key] for key in ("precision", "exclude_types", "env_protection") if key in section}
        first = {**section["repinit"], **common, "sel": int(section["repinit"]["nsel"])}
        second = {**section["repformer"], **common}
        smooth = bool(section.get("smooth", True))
        self.block = AttenBlock({**first, "smooth_type_embedding": smooth, "attn_layer": 0}, self.n_types)
        types = {**section, "tebd_dim": first["tebd_dim"]}
        self.type_embedding = linear_embedding(types, type_map)
        self.has_triples = bool(first["use_three_body"])
        three = {**first, "smooth": smooth, "rcut": first["three_body_rcut"], "neuron": first["three_body_neuron"],
                 "rcut_smth": first["three_body_rcut_smth"], "sel": total(first["three_body_sel"])}  # fmt: skip
        self.triples = TripleBlock(three, self.n_types) if self.has_triples else nn.Identity()
        self.layers = Repformers(second, self.n_types, smooth, self.dtype)
        width, g1_dim = self.block.width * self.block.axis, int(second["g1_dim"])
        width += self.triples.width if self.has_triples else 0
        self.shape_transform = nn.Identity() if width == g1_dim else linear(width, g1_dim, self.dtype, False)
        self.adds_types = bool(section.get("add_tebd_to_repinit_out", False))
        self.types_transform = linear(self.type_embedding.width, g1_dim, self.dtype, False)
        if not self.adds_types:
            self.types_transform = nn.Identity()
        self.joins_types = bool(section.get("concat_output_tebd", True))
        self.rcut, self.rcut_smth, self.sel = self.block.rcut, self.block.rcut_smth, [self.block.n_slots]
        self.triple_rcut = self.triples.rcut if self.has_triples else 0.0
        self.receptive_field = self.rcut + len(self.layers.layers) * self.layers.rcut
        self.dim_rotation = int(second["g2_dim"])
        self.dim_out = g1_dim + (self.type_embedding.width if self.joins_types else 0)

    @torch.jit.unused
    def randomise(self, seed: int | None) -> None:
        self.type_embedding.randomise(seed)
        self.block.randomise(seed)
        if self.has_triples:
            self.triples.randomise(seed, 1)
        generator = np.random.default_rng(stream(seed, "layers", 0))
        for layer in (self.shape_transform, self.types_transform, self.layers.g2_embd):
            if isinstance(layer, Dense):
                layer.randomise(generator)
        for k, layer in enumerate(self.layers.layers):
            layer.randomise(stream(seed, "layers", k + 1))

    @torch.jit.unused
    def node_parts(self) -> list[Any]:
        blocks = [self.block, *([self.triples] if self.has_triples else [])]
        return [(block, lambda: (self.type_embedding(),)) for block in blocks]

    @torch.jit.unused
    def environments(self) -> list[Environment]:
        return [self.block, *([self.triples] if self.has_triples else []), self.layers]

    def forward(
        self, vectors: Tensor, centers: Tensor, neighbors: Tensor, types: Tensor, n_centers: int
    ) -> tuple[Tensor, Tensor]:
        """Descriptor [n_centers, dim_out] and rotation [n_centers, g2_dim, 3]; every atom must be a centre."""
        assert types.shape[0] == n_centers, (
            "this model passes messages between atoms: it needs whole frames whose neighbours are owned atoms"
        )
        table = self.type_embedding()
        g1, _ = self.block(vectors, centers, neighbors, types, n_centers, table)
        if self.has_triples:
            near = torch.nonzero((vectors * vectors).sum(dim=1) < self.triple_rcut**2).flatten()
            three = self.triples(vectors[near], centers[near], neighbors[near], types, n_centers, table)
            g1 = torch.cat([g1, three], dim=1)
        g1 = self.shape_transform(g1)
        if self.adds_types:
            g1 = g1 + self.types_transform(table)[types]
        g1, rotation = self.layers(vectors, centers, neighbors, types, g1)
        if self.joins_types:
            g1 = torch.cat([g1, table[types]], dim=1)
        return g1, rotation

    @torch.jit.unused
    def serialize(self) -> dict[str, Any]:
        section = self.section
        flags = {"activation_function": section["repinit"]["activation_function"],
                 "resnet_dt": section["repinit"]["resnet_dt"], "trainable": section.get("trainable", True)}  # fmt: skip

        def variables(block: Any, networks: bool = True) -> dict[str, Any]:
            tree = {"embeddings": write_networks([block.network], 0, self.n_types, flags)} if networks else {}
            tree["env_mat"] = {**block.serialize_shape(), "protection": 0.0}
            tree["@variables"] = block.serialize_statistics()
            if networks and block.strip:
                tree["embeddings_strip"] = write_networks([block.type_network], 0, self.n_types, flags)
            return tree

        identity = {"@class": "Identity", "@version": 1}
        shape = self.shape_transform
        layers = {"g2_embd": self.layers.g2_embd.serialize(),
                  "repformer_layers": [layer.serialize(self.n_types) for layer in self.layers.layers]}  # fmt: skip
        tree = {
            "@class": "Descriptor",
            "type": "dpa2",
            "@version": 3,
            "ntypes": self.n_types,
            "repinit_args": {key: section["repinit"][key] for key in REPINIT_KEYS},
            "repformer_args": {key: section["repformer"].get(key) for key in REPFORMER_KEYS},
            "concat_output_tebd": self.joins_types,
            "precision": "float64" if self.dtype == torch.float64 else "float32",
            "smooth": self.block.smooth,
            "exclude_types": self.block.exclude_types,
            "env_protection": self.block.protection,
            "trainable": bool(section.get("trainable", True)),
            "add_tebd_to_repinit_out": self.adds_types,
            "use_econf_tebd": False,
            "use_tebd_bias": bool(section.get("use_tebd_bias", False)),
            "type_map": self.type_map,
            "type_embedding": self.type_embedding.serialize(),
            "g1_shape_tranform": shape.serialize() if isinstance(shape, Dense) else identity,
        }
        if tree["repformer_args"]["ln_eps"] is None:
            tree["repformer_args"]["ln_eps"] = 1e-5
        if self.adds_types:
            tree["tebd_transform"] = self.types_transform.serialize()
        tree["repinit_variable"] = variables(self.block)
        tree["repformers_variable"] = {**layers, **variables(self.layers, False)}
        if self.has_triples:
            tree["repinit_three_body_variable"] = variables(self.triples)
        return tree

    @classmethod
    def deserialize(cls, tree: dict[str, Any], type_map: list[str]) -> "DescriptorDpa2":
        section = {key: tree[key] for key in COMMON if key in tree}
        section |= {"repinit": dict(tree["repinit_args"]), "repformer": dict(tree["repformer_args"])}
        if tree["@version"] < 3:  # files of the first release lack these choices
            section["repformer"] |= {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
        section["use_tebd_bias"] = bool(tree.get("use_tebd_bias", True))
        descriptor = cls(section, type_map)
        descriptor.block.load({**tree["repinit_variable"], "attention_layers": {"attention_layers": []}})
        if descriptor.has_triples:
            descriptor.triples.load(tree["repinit_three_body_variable"])
        descriptor.type_embedding = TypeEmbedding.deserialize(tree["type_embedding"], type_map)
        if isinstance(descriptor.shape_transform, Dense):
            descriptor.shape_transform = Dense.deserialize(tree["g1_shape_tranform"])
        if descriptor.adds_types:
            descriptor.types_transform = Dense.deserialize(tree["tebd_transform"])
        variables = tree["repformers_variable"]
        descriptor.layers.load_statistics(variables["@variables"])
        descriptor.layers.g2_embd = Dense.deserialize(variables["g2_embd"])
        for layer, entry in zip(descriptor.layers.layers, variables["repformer_layers"], strict=True):
            layer.load(entry)
        return descriptor

