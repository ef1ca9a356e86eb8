"""What this version runs, beside what the manuals of this family of programs describe.

The schema accepts what stands here. A documented thing that is not built is refused by name, so that nobody takes
it for a typing error and nothing is ignored in silence. Whoever builds one of them adds its name to BUILT (and a
schema entry), or takes it out of FIXED or REFUSED.
"""

from __future__ import annotations

from typing import Any, NoReturn

from deepmd.errors import InputError

from .messages import fail, listed, nearest, show

# Choices that run. The key is the path in input.json; `precision` and `activation_function` hold for every network.
BUILT: dict[str, tuple[str, ...]] = {
    "model/type": ("standard", "pairtab", "frozen", "linear_ener", "pairwise_dprc"),
    "model/descriptor/type": (
        *("se_e2_a", "se_e2_r", "se_e3", "se_atten", "se_atten_v2", "se_e3_tebd", "dpa2", "dpa3", "hybrid"),
        *("se_a_tpe", "loc_frame", "se_a_mask"),
    ),
    "model/fitting_net/type": ("ener", "dipole", "polar", "dos", "property"),
    "model/modifier/type": ("dipole_charge",),
    "learning_rate/type": ("exp", "cosine", "wsd"),
    "learning_rate/scale_by_worker": ("linear", "sqrt", "none"),
    "learning_rate/decay_type": ("inverse_linear", "cosine", "linear"),
    "optimizer/type": ("Adam", "AdamW"),
    "loss/type": ("ener", "ener_spin", "tensor", "dos", "property"),
    "loss/loss_func": ("mse", "mae"),
    "precision": ("default", "float32", "float64"),
    "activation_function": (
        "tanh",
        "gelu",
        "gelu_tf",
        "relu",
        "relu6",
        "sigmoid",
        "silu",
        "silut",
        "softplus",
        "linear",
        "none",
    ),
}

# Choices that the manuals describe and that do not run here, with their aliases.
DOCUMENTED: dict[str, tuple[str, ...]] = {
    "model/type": ("dpa4", "DPA4", "SeZM", "sezm"),
    "model/descriptor/type": (
        *("dpa4", "DPA4", "SeZM", "sezm", "dpa4c", "DPA4C"),
        *("se_a_ebd_v2", "se_a_tpe_v2"),
    ),
    "model/fitting_net/type": ("population", "dpa4_ener", "sezm_ener"),
    "optimizer/type": ("LKF", "AdaMuon", "HybridMuon"),
    "loss/type": ("population", "dens"),
    "precision": ("float16", "bfloat16"),
}

# What a choice is called in a refusal.
NOUNS = {
    "model/type": "model type",
    "model/descriptor/type": "descriptor",
    "model/fitting_net/type": "fitting net",
    "model/modifier/type": "modifier",
    "learning_rate/type": "learning-rate schedule",
    "optimizer/type": "optimizer",
    "loss/type": "loss",
    "loss/loss_func": "loss function",
    "precision": "precision",
    "activation_function": "activation function",
}

# Keys that are accepted at the values given here, which change nothing, and refused at any other value.
FIXED: dict[str, tuple[Any, ...]] = {
    "model/bridging_method": ("None", "none", None),
    "model/fitting_net/dim_case_embd": (0,),
    "model/model_branch_alias": ([],),
    "training/training_data/min_pair_dist": (0,),
    "training/stat_file_mode": ("update",),
    "training/enable_ema": (False,),
    "training/profiling": (False,),
    "training/enable_profiler": (False,),
    "training/tensorboard": (False,),
    "training/acc_freq": (1,),
    "training/zero_stage": (0,),
    "training/neighbor_graph_method": ("auto",),
    "training/enable_compile": (False,),
    "training/enable_tf32": (False,),
    "validating/full_validation": (False,),
    "validating/ema_full_validation": (False,),
    "validating/compiled_infer": (False,),
    "validating/tf32_infer": (False,),
    "validating/amp_infer": (False,),
}

# Documented keys without a harmless value, and what each one switches on.
REFUSED: dict[str, str] = {
    "model/type_embedding": "a type embedding",
    "model/compress": "compression inside the input file",
    "model/lora": "low-rank fine-tuning",
    "model/fitting_net/layer_name": "layers shared by name",
    "nvnmd": "the NVNMD hardware",
    "training/mixed_precision": "mixed-precision training",
}

# Keys of inputs with several tasks, which an input without model/model_dict cannot have.
OF_SEVERAL_TASKS = (
    *("model/shared_dict", "model/finetune_head", "loss_dict", "training/data_dict", "training/model_prob"),
    *("training/num_epoch_dict", "model/fitting_net_dict", "learning_rate_dict", "training/fitting_weight"),
)

_INSTEAD = {
    "mixed-precision training": "remove it, or set precision of descriptor and fitting_net to 'float32'",
    "compression inside the input file": "remove it",
}


def documented(key: str) -> tuple[str, ...]:
    """All names that the choice at `key` has in the manuals, the built ones first."""
    return BUILT[key] + DOCUMENTED.get(key, ())


def refuse_choice(path: str, value: Any, key: str) -> NoReturn:
    """Refuse a choice: by name when it is documented, else as a typing error with the nearest known name."""
    built = BUILT[key]
    if value in DOCUMENTED.get(key, ()):
        noun = NOUNS.get(key, "choice")
        raise InputError(
            f"{path}: {show(value)} is a documented {noun} that this version does not run yet; "
            f"available: {listed(built)}"
        )
    near = nearest(value, documented(key)) if isinstance(value, str) else None
    fail(path, value, f"one of {listed(built)}", f"did you mean '{near}'?" if near else "")


def check_choice(path: str, value: Any, key: str) -> None:
    """Pass when the value is a built choice, else refuse it."""
    if value not in BUILT[key]:
        refuse_choice(path, value, key)


def refuse_key(path: str, value: Any) -> None:
    """Refuse a documented key that this version cannot honour at any value."""
    if path in OF_SEVERAL_TASKS:
        raise InputError(
            f"{path}: got {show(value)}, expected no such key, as it belongs to multi-task inputs and this one has no "
            "model/model_dict; add model/model_dict, or remove the key"
        )
    feature = REFUSED.get(path)
    if feature is not None:
        raise InputError(
            f"{path}: got {show(value)}, expected no such key, as it asks for {feature}, which is documented but does "
            f"not run in this version yet; {_INSTEAD.get(feature, 'remove the key to train without it')}"
        )


def check_fixed(path: str, value: Any) -> None:
    """Refuse a documented key whose value asks for something that is not built."""
    allowed = FIXED.get(path.replace("validation_data", "training_data"))
    if allowed is None or any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        return
    raise InputError(
        f"{path}: got {show(value)}, expected {show(allowed[0])}, as this documented option is not built in this "
        f"version yet; remove the key or set that value"
    )
