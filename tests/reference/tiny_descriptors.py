"""Small models of every descriptor with random weights and statistics that are far from trivial."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

EMBEDDING = {"neuron": [3, 6, 6], "seed": 7}
ATTENTION = {**EMBEDDING, "type": "se_atten", "sel": 60, "rcut": 4.0, "axis_neuron": 3, "tebd_dim": 4, "attn": 5}

SECTIONS: dict[str, dict[str, Any]] = {
    "se_e2_a": {**EMBEDDING, "type": "se_e2_a", "sel": [30, 40], "rcut": 4.0, "axis_neuron": 3},
    "se_e2_r": {**EMBEDDING, "type": "se_e2_r", "sel": [30, 40], "rcut": 4.0, "activation_function": "gelu"},
    "se_e2_r, two-sided": {**EMBEDDING, "type": "se_e2_r", "sel": [30, 40], "rcut": 4.0, "type_one_side": False},
    "se_e2_r, excluded": {**EMBEDDING, "type": "se_r", "sel": [30, 40], "rcut": 4.0, "exclude_types": [[0, 1]],
                          "set_davg_zero": True},
    "se_e3": {**EMBEDDING, "type": "se_e3", "sel": [18, 20], "rcut": 3.0, "resnet_dt": True},
    "se_e3, excluded": {**EMBEDDING, "type": "se_t", "sel": [18, 20], "rcut": 3.0, "exclude_types": [[0, 0]],
                        "env_protection": 0.2},
    "se_atten": {**ATTENTION, "attn_layer": 0},
    "se_atten, strip": {**ATTENTION, "attn_layer": 0, "tebd_input_mode": "strip", "use_tebd_bias": True},
    "se_atten, attention": {**ATTENTION, "attn_layer": 2, "type_one_side": True, "attn_dotr": False},
    "se_atten, smooth": {**ATTENTION, "attn_layer": 2, "smooth_type_embedding": True, "scaling_factor": 0.5,
                         "concat_output_tebd": False},
    "se_atten, plain attention": {**ATTENTION, "attn_layer": 1, "normalize": False, "temperature": 0.3, "ln_eps": 1e-3,
                                  "smooth_type_embedding": True, "tebd_dim": 2},
    "se_atten, excluded": {**ATTENTION, "attn_layer": 1, "exclude_types": [[0, 1]], "smooth_type_embedding": True},
    "se_atten_v2": {**ATTENTION, "type": "se_atten_v2", "attn_layer": 1},
    "se_atten_v2, one-sided": {**ATTENTION, "type": "se_atten_v2", "attn_layer": 0, "type_one_side": True},
    "se_e3_tebd": {**EMBEDDING, "type": "se_e3_tebd", "sel": 30, "rcut": 3.0, "tebd_dim": 4},
    "se_e3_tebd, strip": {**EMBEDDING, "type": "se_e3_tebd", "sel": [10, 20], "rcut": 3.0, "tebd_dim": 4,
                          "tebd_input_mode": "strip", "concat_output_tebd": False},
}  # fmt: skip
SECTIONS["se_a_tpe"] = {**SECTIONS["se_e2_a"], "type": "se_a_tpe", "type_nchanl": 2}
SECTIONS["se_a_tpe, one-sided"] = {**SECTIONS["se_a_tpe"], "type_one_side": True, "exclude_types": [[0, 1]],
                                   "set_davg_zero": True, "type_nchanl": 3, "type_nlayer": 1}  # fmt: skip
REPINIT = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 60, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 4}
REPFORMER = {
    "rcut": 3.0,
    "rcut_smth": 0.5,
    "nsel": 30,
    "nlayers": 2,
    "g1_dim": 6,
    "g2_dim": 4,
    "axis_neuron": 2,
    "attn1_hidden": 3,
    "attn1_nhead": 2,
    "attn2_hidden": 3,
    "attn2_nhead": 2,
}
THREE = {"use_three_body": True, "three_body_rcut": 3.0, "three_body_sel": 30, "three_body_neuron": [2, 4]}
SECTIONS["dpa2"] = {"type": "dpa2", "seed": 7, "repinit": REPINIT, "repformer": REPFORMER}
SECTIONS["dpa2, everything"] = {
    "type": "dpa2",
    "seed": 7,
    "add_tebd_to_repinit_out": True,
    "exclude_types": [[0, 0]],
    "repinit": {**REPINIT, **THREE, "tebd_input_mode": "strip", "type_one_side": True},
    "repformer": {
        **REPFORMER,
        "update_h2": True,
        "attn2_has_gate": True,
        "update_style": "res_residual",
        "nlayers": 3,
        "update_residual": 0.4,
        "g1_out_conv": False,
        "g1_out_mlp": False,
        "use_sqrt_nnei": False,
        "activation_function": "silu",
        "set_davg_zero": False,
    },
}
SECTIONS["dpa2, little"] = {
    "type": "dpa2",
    "seed": 7,
    "smooth": False,
    "concat_output_tebd": False,
    "repinit": {**REPINIT, "neuron": [3, 3]},
    "repformer": {
        **REPFORMER,
        "rcut": 2.95,
        "direct_dist": True,
        "update_g1_has_drrd": False,
        "update_g2_has_g1g1": False,
        "update_style": "res_incr",
        "update_residual_init": "const",
    },
}
REPFLOW = {
    "e_rcut": 4.0,
    "e_rcut_smth": 0.5,
    "e_sel": 50,
    "a_rcut": 3.0,
    "a_rcut_smth": 0.5,
    "a_sel": 20,
    "n_dim": 6,
    "e_dim": 5,
    "a_dim": 4,
    "nlayers": 2,
    "axis_neuron": 2,
    "smooth_edge_update": True,
    "update_residual": 0.4,
}
SECTIONS["dpa3"] = {"type": "dpa3", "seed": 7, "repflow": REPFLOW}
SECTIONS["dpa3, compressed"] = {
    "type": "dpa3",
    "seed": 7,
    "exclude_types": [[0, 1]],
    "concat_output_tebd": True,
    "activation_function": "tanh",
    "repflow": {
        **REPFLOW,
        "update_style": "res_avg",
        "a_compress_rate": 1,
        "a_compress_e_rate": 2,
        "n_multi_edge_message": 2,
        "use_dynamic_sel": True,
        "use_exp_switch": True,
        "e_rcut_smth": 2.2,
        "a_rcut_smth": 1.6,
    },
}
SECTIONS["dpa3, sequential"] = {
    "type": "dpa3",
    "seed": 7,
    "repflow": {
        **REPFLOW,
        "sequential_update": True,
        "edge_init_use_dist": True,
        "a_compress_rate": 1,
        "fix_stat_std": 0.0,
        "a_compress_use_split": True,
        "update_residual_init": "norm",
        "smooth_edge_update": False,
        "a_rcut": 2.95,
    },
}
SECTIONS["dpa3, no angles"] = {
    "type": "dpa3",
    "seed": 7,
    "repflow": {**REPFLOW, "update_angle": False, "update_style": "res_incr"},
}
SECTIONS["hybrid"] = {"type": "hybrid", "list": [
    {**SECTIONS["se_e2_a"], "rcut": 3.0}, SECTIONS["se_e2_r"], SECTIONS["se_e3"]]}  # fmt: skip
SECTIONS["hybrid, mixed types"] = {"type": "hybrid", "list": [
    SECTIONS["se_atten"], {**SECTIONS["se_e2_a"], "rcut": 3.0}, SECTIONS["dpa2"]]}  # fmt: skip

# Descriptors whose definition jumps where a neighbour passes the cutoff: attention that is not smooth, and rows with
# an average for pairs that are excluded or whose type the phantom row does not have.
JUMPING = ("se_atten, attention", "dpa2, little", "dpa3, sequential")


def input_of(descriptor: dict[str, Any], type_map: list[str] | None = None) -> dict[str, Any]:
    """The `model` section of an input with this descriptor, all defaults filled in."""
    from deepmd.config import normalise

    full = normalise(
        {
            "model": {
                "type_map": type_map or ["O", "H"],
                "descriptor": copy.deepcopy(descriptor),
                "fitting_net": {"neuron": [6, 6], "seed": 3},
            },
            "learning_rate": {"start_lr": 0.001},
            "training": {"training_data": {"systems": "data"}, "numb_steps": 1},
        }
    )
    return full["model"]


def make_model(
    name: str, section: dict[str, Any] | None = None, type_map: list[str] | None = None
) -> torch.nn.Module:
    """A model with random weights, biases and statistics; section: in place of the one of that name."""
    from deepmd.nn.model import build

    rng = np.random.default_rng(5)
    model = build(input_of(section or SECTIONS[name], type_map)).eval()
    n = len(model.type_map)
    with torch.no_grad():
        model.out_bias.copy_(torch.from_numpy(rng.normal(-3.0, 1.0, n)))
        for environment in model.descriptor.environments():
            if not environment.set_davg_zero:
                environment.davg[:, 0] = torch.from_numpy(rng.uniform(0.05, 0.3, n))
            widths = rng.uniform(0.2, 0.5, (n, 2))[:, [0, 1, 1, 1][: environment.row_width]]
            environment.dstd.copy_(torch.from_numpy(widths.copy()))
    return model
