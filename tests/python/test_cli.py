"""The command line: help, versions, backends, refusals, exit statuses, messages."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import deepmd
import pytest
from deepmd import cli, cli_parser, log
from deepmd.cli_commands import COMMANDS
from deepmd.errors import DataError, InputError

PYTHON = Path(deepmd.__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "dargs", "yaml", "h5py", "ase", "matplotlib", "deepmd.config")
BUILT = [command for command in COMMANDS if not command.refusal]
REFUSED = [command for command in COMMANDS if command.refusal]


def dp(*argv: str) -> subprocess.CompletedProcess[str]:
    """`dp` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(PYTHON), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "deepmd", *argv], capture_output=True, text=True, env=environment, check=False
    )


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr of a command that ends with status 2."""
    assert cli.main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("dp: error: "), captured.err
    return lines[0]


@pytest.fixture(autouse=True)
def logger():
    """The logger of the program, put back afterwards."""
    root = logging.getLogger("deepmd")
    before = (list(root.handlers), root.level, root.propagate)
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers, root.propagate = before[0], before[2]
    root.setLevel(before[1])


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list:
    """Arguments that commands were called with, in place of running them."""
    seen: list = []

    class Module:
        def __getattr__(self, name: str):
            return seen.append

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Module())
    return seen


def parsed(called: list, *argv: str):
    assert cli.main(list(argv)) == 0
    return called[-1]


def test_import_is_light() -> None:
    code = "import sys, deepmd.cli; deepmd.cli.parse([], deepmd.cli.COMMANDS); "
    code += f"print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PYTHON)}
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_names_every_command() -> None:
    done = dp("-h")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command.name}\s", done.stdout, re.M), command.name
    assert done.stdout == dp().stdout, "no command prints the help too"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.name)
def test_help_of_a_command(command: cli_parser.Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main([command.name, "-h"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert f"dp {command.name}" in text and "--log-level" in text
    assert ("--mpi-log" in text) == command.parallel


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    assert deepmd.__version__ in capsys.readouterr().out


@pytest.mark.parametrize("flags", [(), ("--pt",), ("--pytorch",), ("-b", "pytorch"), ("--backend", "PT")])
def test_own_backend_is_accepted(flags: tuple[str, ...], called: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DP_BACKEND", "tensorflow")
    assert parsed(called, *flags, "train", "input.json").INPUT == "input.json"


@pytest.mark.parametrize(
    "flags", [("--tf",), ("--jax",), ("--pd",), ("--dp",), ("--np",), ("--pt-expt",), ("-b", "tensorflow")]
)
def test_other_backends_are_refused(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected 'pytorch'" in refusal(capsys, *flags, "train", "input.json")


@pytest.mark.parametrize("command", REFUSED, ids=lambda one: one.name)
def test_commands_that_are_not_built(command: cli_parser.Command, capsys: pytest.CaptureFixture[str]) -> None:
    needed = {"change-bias": ["model.pt"], "train-nvnmd": ["in.json"], "pretrained": ["download", "DPA-3.2-5M"]}
    line = refusal(capsys, command.name, *needed.get(command.name, []))
    assert f"dp {command.name}: this documented command is not built in this version; " in line


# Arguments and words of the error.
WRONG = [
    (["trian", "input.json"], ["'trian'", "did you mean 'train'?"]),
    (["train"], ["dp train", "INPUT"]),
    (["train", "a.json", "--skip-neighbour-stat"], ["--skip-neighbour-stat", "did you mean '--skip-neighbor-stat'?"]),
    (["train", "a.json", "b.json"], ["'b.json'"]),
    (["train", "a.json", "-i", "x", "-r", "y"], ["--restart", "not allowed with", "--init-model"]),
    (["train", "a.json", "-v", "LOUD"], ["'LOUD'", "DEBUG"]),
    (["train", "a.json", "--force-load"], ["--force-load", "not built"]),
    (["train", "no/such/input.json"], ["no/such/input.json", "no such file"]),
    (["freeze", "--hessian"], ["--hessian"]),
    (["freeze", "--lower-kind", "graph"], ["--lower-kind", "'graph'"]),
    (["test", "-n", "all"], ["--numb-test", "'all'", "whole number"]),
    (["test", "-n", "-3"], ["-3", "from 0 on"]),
    (["test", "-S", "frames"], ["--set-prefix", "'frames'"]),
    (["model-devi", "--relative", "0"], ["--relative", "'0'", "above 0"]),
    (["neighbor-stat", "-r", "-6", "-t", "O"], ["'-6'", "above 0"]),
    (["neighbor-stat", "-r", "6"], ["-t/--type-map", "required"]),
    (["show", "m.pth", "sizes"], ["'sizes'", "did you mean 'size'?"]),
    (["doc-train-input", "--out-type", "html"], ["'html'", "json_schema"]),
    (["convert-raw", ".", "0"], ["'0'", "from 1 on"]),
    (["--pt", "--jax", "train", "x"], ["--jax", "not allowed with"]),
    (["-b"], ["--backend", "expected one argument"]),
    (["--verbose"], ["'--verbose'"]),
    (["check", "no/such/place", "-l", "no/such/folder/log"], ["--log-path", "can be written"]),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: " ".join(case[0])[:40])
def test_wrong_command_lines(case: tuple[list[str], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    argv, words = case
    line = refusal(capsys, *argv)
    for word in words:
        assert word in line


def test_documented_options_of_train(called: list) -> None:
    args = parsed(
        called, "--pt", "train", "in.json", "--init-model", "old/model.ckpt", "-o", "o.json", "-l", os.devnull
    )
    assert (args.init_model, args.restart, args.init_frz_model, args.finetune) == ("old/model.ckpt", None, None, None)
    assert (args.output, args.skip_neighbor_stat, args.check_data) == ("o.json", False, True)
    args = parsed(
        called, "train", "in.json", "-t", "m.pth", "--use-pretrain-script", "--no-check-data", "-m", "collect"
    )
    assert (args.finetune, args.use_pretrain_script, args.check_data, args.mpi_log) == ("m.pth", True, False, "collect")


def test_documented_options_of_freeze_and_test(called: list) -> None:
    args = parsed(called, "freeze", "-o", "graph.000.pth")
    assert (args.checkpoint, args.output) == (".", "graph.000.pth")
    assert parsed(called, "freeze", "--checkpoint-folder", "run").checkpoint == "run"
    args = parsed(called, "test", "-m", "graph.pth", "-s", "data", "-S", "set", "-n", "30", "-d", "out", "-a", "--plot")
    assert (args.model, args.system, args.numb_test, args.detail_file) == ("graph.pth", "data", 30, "out")
    assert (args.atomic, args.plot, args.datafile, args.train_data) == (True, True, None, None)
    assert parsed(called, "test").numb_test == 0


def test_documented_options_of_model_devi(called: list) -> None:
    args = parsed(called, "model-devi", "-m", "a.pth", "b.pth", "-s", "data", "-o", "md.out", "--relative", "1.0")
    assert (args.models, args.system, args.output) == (["a.pth", "b.pth"], "data", "md.out")
    assert (args.relative, args.relative_v, args.frequency, args.atomic, args.real_error) == (
        1.0,
        None,
        1,
        False,
        False,
    )
    assert parsed(called, "model-devi").models == [f"graph.{k:03d}" for k in range(4)]


def test_documented_options_of_the_others(called: list) -> None:
    args = parsed(called, "convert-backend", "a.dp", "b.pth")
    assert (args.INPUT, args.OUTPUT) == ("a.dp", "b.pth")
    assert parsed(called, "show", "a.pth", "type-map", "size").ATTRIBUTES == ["type-map", "size"]
    args = parsed(called, "neighbor-stat", "-s", "data", "-r", "6.0", "-t", "O", "H", "--one-type")
    assert (args.rcut, args.type_map, args.mixed_type) == (6.0, ["O", "H"], True)
    args = parsed(called, "convert-raw", "data", "500")
    assert (args.folder, args.lines_per_set) == ("data", 500)
    assert parsed(called, "convert-raw", "data").lines_per_set == 2000
    assert parsed(called, "check", "a", "b").systems == ["a", "b"]
    args = parsed(called, "compress", "input.json", "-i", "graph.pb", "-o", "graph-compress.pb")
    assert (args.INPUT, args.input, args.output) == ("input.json", "graph.pb", "graph-compress.pb")
    args = parsed(called, "eval-desc", "-m", "graph.pth", "-f", "list", "--dtype", "fp32")
    assert (args.datafile, args.output, args.dtype) == ("list", "desc", "fp32")


@pytest.mark.parametrize("command", BUILT, ids=lambda one: one.name)
def test_targets_exist(command: cli_parser.Command) -> None:
    module, _, function = command.target.partition(":")
    path = PYTHON.joinpath(*module.split(".")).with_suffix(".py")
    assert re.search(rf"^def {function}\(", path.read_text(), re.M)


def raising(error: BaseException):
    def function(args: object) -> None:
        raise error

    return function


def test_exit_statuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(error: BaseException) -> int:
        module = type("Module", (), {"main": staticmethod(raising(error))})
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)
        return cli.main(["freeze"])

    assert run(DataError("a.npy: got\nnothing")) == 2
    assert capsys.readouterr().err == "dp: error: a.npy: got nothing\n"
    assert run(KeyboardInterrupt()) == 130
    assert run(PermissionError(13, "Permission denied", "out.npy")) == run(OSError(28, "No space left")) == 2
    assert "\ndp: error: out.npy: Permission denied; " in capsys.readouterr().err
    for bug in (ZeroDivisionError(), OSError(9, "Bad file descriptor")):
        with pytest.raises(type(bug)):
            run(bug)


def test_no_traceback_for_a_user_and_one_for_a_bug() -> None:
    done = dp("train", "missing.json")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_doc_train_input_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doc-train-input"]) == 0
    assert "model/descriptor" in capsys.readouterr().out.replace("model[standard]/", "model/")


def test_gui_without_dpgui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "dpgui", None)
    assert "pip install dpgui" in refusal(capsys, "gui")


LINE = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] DEEPMD (DEBUG|INFO|WARNING|ERROR) +")


def test_log_lines(logger: logging.Logger, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log.setup("INFO", str(tmp_path / "dp.log"))
    child = logging.getLogger("deepmd.train.trainer")
    child.info("Batch %7d", 1)
    child.debug("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert LINE.match(line) and line.endswith("DEEPMD INFO    Batch       1")
    (line,) = (tmp_path / "dp.log").read_text().splitlines()
    assert LINE.match(line) and f"{'deepmd.train.trainer':<45} Batch" in line


@pytest.mark.parametrize("level", ["3", "2", "1", "0"])
def test_log_levels_by_number(level: str, logger: logging.Logger) -> None:
    log.setup(level)
    assert logger.level == (4 - int(level)) * 10


def test_log_of_several_processes(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    for mpi_log in ("master", "collect", "workers"):
        log.setup("INFO", str(tmp_path / f"{mpi_log}.log"), mpi_log)
        logger.info(mpi_log)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["collect", "workers"]
    assert lines[0].startswith("1 [")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collect.log", "workers.log_1"]


def test_log_file_that_cannot_be_written(logger: logging.Logger, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be written"):
        log.setup("INFO", str(tmp_path))
