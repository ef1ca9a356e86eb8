"""The subcommands of `dp` and their options; the words are those that users of this family of programs know."""

from __future__ import annotations

import argparse

from deepmd.cli_parser import Command, Parser, positive, whole

SHOWN = ("model-branch", "type-map", "descriptor", "fitting-net", "size", "observed-type", "serialization-tree")
_NO_TENSORFLOW = (
    "TensorFlow graphs (.pb) are not read; let DeePMD-kit write `dp convert-backend model.pb model.dp`, "
    "then run `dp convert-backend model.dp model.pth` here"
)


def _branch(parser: Parser) -> None:
    parser.add_argument("--head", "--model-branch", dest="head", metavar="NAME", help="task of a multi-task model")


def _systems(parser: Parser, default: str | None = ".") -> None:
    group = parser.add_mutually_exclusive_group()
    text = "folder; every data system below it is taken" + (" (default: %(default)s)" if default else "")
    group.add_argument("-s", "--system", metavar="DIR", default=default, help=text)
    group.add_argument("-f", "--datafile", metavar="FILE", help="text file with the path of one system on each line")


def _train(parser: Parser) -> None:
    parser.add_argument("INPUT", help="training input, JSON or YAML")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("-i", "--init-model", metavar="CKPT", help="start with the weights of a checkpoint, at step 0")
    weights.add_argument("-r", "--restart", metavar="CKPT", help="go on exactly where a checkpoint was written")
    weights.add_argument("-f", "--init-frz-model", metavar="FILE", help="start with the weights of a frozen model")
    weights.add_argument("-t", "--finetune", metavar="FILE", help="start with the weights of a model, for new data")
    parser.add_argument(
        "--use-pretrain-script", action="store_true", help="take the model section from the given model, not from INPUT"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="out.json", help="the input as it was understood (default: out.json)"
    )
    parser.add_argument(
        "--skip-neighbor-stat", action="store_true", help="do not scan the data for numbers of neighbours and distances"
    )
    parser.add_argument("--model-branch", metavar="NAME", default="", help="task of a multi-task model to start from")
    parser.add_argument("--force-load", action="store_true", help="go on when a checkpoint lacks some weights")
    parser.add_argument(
        "--check-data",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for faults in the data before training (default: yes)",
    )


def _freeze(parser: Parser) -> None:
    parser.add_argument(
        "-c",
        "--checkpoint-folder",
        "--checkpoint",
        dest="checkpoint",
        metavar="PATH",
        default=".",
        help="checkpoint, or the folder of a training (default: %(default)s)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="frozen_model", help="frozen model, named .pth (default: %(default)s)"
    )
    parser.add_argument("-n", "--node-names", metavar="NAMES", help="nodes of a TensorFlow graph")
    parser.add_argument("-w", "--nvnmd-weight", metavar="FILE", help="weights for NVNMD hardware")
    parser.add_argument("--hessian", action="store_true", help="include second derivatives")
    parser.add_argument("--lower-kind", choices=("nlist", "graph"), default="nlist", help="kind of the inner interface")
    parser.add_argument("--compress", action="store_true", help="compress the frozen model, as dp compress does")
    _tolerances(parser)
    _branch(parser)


def _test(parser: Parser) -> None:
    parser.add_argument(
        "-m", "--model", metavar="FILE", default="frozen_model", help="model to test (default: %(default)s)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "-s", "--system", metavar="DIR", default=".", help="folder; every data system below it is tested (default: .)"
    )
    source.add_argument("-f", "--datafile", metavar="FILE", help="text file with the path of one system on each line")
    source.add_argument("--train-data", metavar="JSON", help="training input whose training data are tested")
    source.add_argument("--valid-data", metavar="JSON", help="training input whose validation data are tested")
    parser.add_argument("-S", "--set-prefix", metavar="PREFIX", help="no longer used: frame folders are called set.*")
    parser.add_argument(
        "-n", "--numb-test", type=whole(0), default=0, metavar="N", help="frames per system (default: 0, all)"
    )
    parser.add_argument("-r", "--rand-seed", type=whole(0), metavar="SEED", help="seed of --shuffle-test")
    parser.add_argument("--shuffle-test", action="store_true", help="test frames drawn at random")
    parser.add_argument("-d", "--detail-file", metavar="PREFIX", help="write labels and predictions to PREFIX.*.out")
    parser.add_argument("-a", "--atomic", action="store_true", help="test atomic energies too")
    parser.add_argument("--plot", nargs="?", const=True, metavar="PREFIX", help="draw predictions over labels")
    _branch(parser)


def _model_devi(parser: Parser) -> None:
    names = [f"graph.{k:03d}" for k in range(4)]
    parser.add_argument(
        "-m", "--models", nargs="+", metavar="FILE", default=names, help="models (default: graph.000 to graph.003)"
    )
    parser.add_argument(
        "-s", "--system", metavar="DIR", default=".", help="folder; every data system below it is used (default: .)"
    )
    parser.add_argument("-S", "--set-prefix", metavar="PREFIX", help="no longer used: frame folders are called set.*")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="model_devi.out", help="rows are added here (default: %(default)s)"
    )
    parser.add_argument(
        "-f", "--frequency", type=whole(1), default=1, metavar="N", help="steps between frames (default: 1)"
    )
    parser.add_argument("--real_error", "--real-error", action="store_true", help="error against labels, not spread")
    parser.add_argument("--atomic", action="store_true", help="write the deviation of the force of each atom too")
    parser.add_argument("--relative", type=positive, metavar="LEVEL", help="relative to the force plus LEVEL, eV/Å")
    parser.add_argument("--relative_v", type=positive, metavar="LEVEL", help="relative to the virial plus LEVEL, eV")


def _convert_backend(parser: Parser) -> None:
    parser.add_argument("INPUT", help="model to read: .dp, .yaml, .pth, or a checkpoint .pt, of DeePMD-kit too")
    parser.add_argument("OUTPUT", help="model to write: .dp, .yaml or .pth")
    parser.add_argument("--atomic-virial", action="store_true", help="accepted: atomic virials are always available")
    _branch(parser)


def _show(parser: Parser) -> None:
    parser.add_argument("INPUT", help="model file or checkpoint")
    parser.add_argument(
        "ATTRIBUTES", nargs="+", choices=SHOWN, metavar="ATTR", help=f"what to show: {', '.join(SHOWN)}"
    )


def _doctor(parser: Parser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models whose self-test is run too")


def _check(parser: Parser) -> None:
    text = "data systems, folders that hold some, or a training input"
    parser.add_argument("systems", nargs="+", metavar="DATA", help=text)
    parser.add_argument("-t", "--type-map", nargs="+", metavar="NAME", help="names of the types of the model")
    parser.add_argument("--report", metavar="FILE", help="write what was found as JSON")
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions of distances, energies and forces")


def _neighbor_stat(parser: Parser) -> None:
    parser.add_argument(
        "-s", "--system", metavar="DIR", default=".", help="folder; every data system below it is read (default: .)"
    )
    parser.add_argument("-r", "--rcut", type=positive, required=True, metavar="RCUT", help="cutoff radius in Angstrom")
    parser.add_argument("-t", "--type-map", nargs="+", metavar="NAME", required=True, help="names of the types")
    parser.add_argument(
        "--mixed-type", "--one-type", action="store_true", help="count neighbours of all types together"
    )


def _convert_raw(parser: Parser) -> None:
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="folder with *.raw files (default: .)")
    parser.add_argument(
        "lines_per_set", metavar="NLINE", nargs="?", type=whole(1), default=2000, help="frames per set (default: 2000)"
    )


def _plot(parser: Parser) -> None:
    parser.add_argument("INPUT", nargs="?", default="lcurve.out", help="learning curve (default: %(default)s)")
    parser.add_argument("-o", "--output", metavar="FILE", help="picture (default: INPUT with the suffix .png)")


def _doc_train_input(parser: Parser) -> None:
    parser.add_argument(
        "--out-type", choices=("rst", "json", "json_schema"), default="rst", help="form (default: %(default)s)"
    )
    parser.add_argument("--multi-task", action="store_true", help="the multi-task form")


def _gui(parser: Parser) -> None:
    parser.add_argument("-p", "--port", type=whole(0), default=6042, help="port of the page (default: %(default)s)")
    parser.add_argument("--bind_all", "--bind-all", action="store_true", help="serve other machines too")


def _compress(parser: Parser) -> None:
    parser.add_argument("INPUT", nargs="?", help="training input, as older manuals write it; see -t")
    parser.add_argument("-i", "--input", metavar="FILE", default="frozen_model", help="model (default: %(default)s)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="frozen_model_compressed", help="result (default: %(default)s)"
    )
    _tolerances(parser)
    parser.add_argument("-t", "--training-script", metavar="FILE", help="training input, for its validation data")
    recorded = parser.add_argument_group("options that are recorded in the file; tables follow from the tolerance")
    recorded.add_argument("-s", "--step", type=positive, default=0.01, help="stride of a table elsewhere")
    recorded.add_argument("-e", "--extrapolate", type=whole(1), default=5, help="reach of a table elsewhere")
    recorded.add_argument("-f", "--frequency", type=int, default=-1, help="steps between overflow checks elsewhere")
    recorded.add_argument("-c", "--checkpoint-folder", metavar="DIR", default="model-compression", help="not needed")
    _branch(parser)


def _tolerances(parser: Parser) -> None:
    group = parser.add_argument_group("how a model is compressed")
    group.add_argument(
        "--exact", action="store_true", help="tables of all outputs of the embedding networks, not of a spectral basis"
    )
    group.add_argument(
        "--tolerance", type=positive, metavar="E", help="largest force error, eV/Å (default: 2e-6, with --exact 1e-8)"
    )
    group.add_argument("--rank", type=whole(1), metavar="P", help="size of spectral bases (default: by the tolerance)")
    group.add_argument("--data", nargs="+", metavar="DATA", help="systems to measure on (default: those of the input)")
    group.add_argument("--max-frames", type=whole(2), default=20, metavar="N", help="frames at most (default: 20)")


def _change_bias(parser: Parser) -> None:
    parser.add_argument("INPUT", help="checkpoint or frozen model")
    _systems(parser, default=None)
    parser.add_argument("-b", "--bias-value", nargs="+", type=float, metavar="E", help="energies of the types")
    parser.add_argument("-n", "--numb-batch", type=whole(0), default=0, help="batches per system (default: 0, all)")
    parser.add_argument("-m", "--mode", choices=("change", "set"), default="change", help="add to the bias or replace")
    parser.add_argument("-o", "--output", metavar="FILE", help="result (default: INPUT with _updated)")
    _branch(parser)


def _eval_desc(parser: Parser) -> None:
    parser.add_argument("-m", "--model", metavar="FILE", default="frozen_model", help="model (default: %(default)s)")
    _systems(parser)
    parser.add_argument("-o", "--output", metavar="DIR", default="desc", help="folder of results (default: desc)")
    parser.add_argument("--dtype", choices=("fp32", "fp64", "native"), default="fp64", help="type of the numbers")
    _branch(parser)


def _convert_from(parser: Parser) -> None:
    versions = ("auto", "0.12", "1.0", "1.1", "1.2", "1.3", "2.0", "pbtxt")
    parser.add_argument("FROM", nargs="?", choices=versions, default="auto", help="version of the old model")
    parser.add_argument("-i", "--input-model", metavar="FILE", default="frozen_model.pb", help="old model")
    parser.add_argument("-o", "--output-model", metavar="FILE", default="convert_out.pb", help="new model")


def _transfer(parser: Parser) -> None:
    parser.add_argument("-r", "--raw-model", metavar="FILE", help="model that gives the form")
    parser.add_argument("-O", "--old-model", metavar="FILE", help="model that gives the weights")
    parser.add_argument("-o", "--output", metavar="FILE", help="result")


def _train_nvnmd(parser: Parser) -> None:
    parser.add_argument("INPUT", help="training input")
    parser.add_argument("-s", "--step", choices=("s1", "s2"), default="s1", help="stage of training")


def _pretrained(parser: Parser) -> None:
    parser.add_argument("ACTION", choices=("download",), help="what to do")
    parser.add_argument("MODEL", help="name of the model")
    parser.add_argument("--cache-dir", metavar="DIR", help="folder for downloads")


_OLD_PREFIX = {"set_prefix": (None, "set")}
_ONE_TASK = {"head": (None, "")}

COMMANDS = [
    Command(
        "train",
        "train a model",
        _train,
        "deepmd.train.entry:train",
        parallel=True,
        fixed={"force_load": (False,)},
    ),
    Command(
        "freeze",
        "turn a checkpoint into one model file that runs everywhere",
        _freeze,
        "deepmd.freeze:main",
        fixed={
            "node_names": (None,),
            "nvnmd_weight": (None,),
            "hessian": (False,),
            "lower_kind": ("nlist",),
        },
    ),
    Command("test", "errors of a model on labelled data", _test, "deepmd.test:main", fixed=_OLD_PREFIX),
    Command("model-devi", "deviation of several models", _model_devi, "deepmd.deviation:main", fixed=_OLD_PREFIX),
    Command("convert-backend", "convert a model file", _convert_backend, "deepmd.exchange:main"),
    Command("show", "show what a model is", _show, "deepmd.show:main"),
    Command("doctor", "test the installation", _doctor, "deepmd.doctor:main"),
    Command("check", "look for faults in data", _check, "deepmd.data.check:main"),
    Command("neighbor-stat", "neighbours and distances in data", _neighbor_stat, "deepmd.data.neighbor_stat:main"),
    Command("convert-raw", "turn *.raw files into sets of frames", _convert_raw, "deepmd.data.raw:main"),
    Command("plot", "draw a learning curve", _plot, "deepmd.plots:main"),
    Command("doc-train-input", "print what an input can hold", _doc_train_input, "deepmd.config.doc:doc_command"),
    Command("gui", "edit an input in the browser", _gui, "deepmd.config.doc:gui_command"),
    Command(
        "compress",
        "make a model faster by tables",
        _compress,
        "deepmd.compress:main",
        parallel=True,
        fixed=_ONE_TASK,
    ),
    Command(
        "change-bias",
        "fit the energies of the types anew",
        _change_bias,
        "deepmd.change_bias:main",
    ),
    Command("eval-desc", "write the descriptors of all atoms", _eval_desc, "deepmd.eval_desc:main"),
    Command("embed", "write features of atoms", _eval_desc, refusal="`dp eval-desc` writes descriptors"),
    Command("convert-from", "convert an old TensorFlow model", _convert_from, refusal=_NO_TENSORFLOW),
    Command("transfer", "move weights between TensorFlow models", _transfer, refusal=_NO_TENSORFLOW),
    Command("train-nvnmd", "train for NVNMD hardware", _train_nvnmd, refusal="use `dp train` for other hardware"),
    Command(
        "pretrained",
        "fetch a pretrained model",
        _pretrained,
        refusal="fetch the checkpoint; `dp convert-backend model.pt graph.pth` reads those whose parts run here",
    ),
]
