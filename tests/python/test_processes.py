"""Several processes that train one model, started by torchrun, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from deepmd.train import checkpoint
from deepmd.train.processes import lr_factor
from training_runs import changed, equal, make_input, run, weights

pytestmark = pytest.mark.usefixtures("compiled")
SAME = {"learning_rate__scale_by_worker": "none"}


@pytest.fixture
def jdata(tiny_system):
    """Eight frames in batches of two: a pass is two steps of two processes, or two steps of four frames."""
    return changed(make_input(tiny_system(n_frames=8), numb_steps=6, save_freq=3, disp_freq=2), **SAME)


def start(folder: Path, jdata: dict, *options: str, n: int = 2, code: str = "") -> subprocess.Popen:
    """torchrun with n processes in `folder`; code: what to run before dp in each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(jdata))
    (folder / "dp_here.py").write_text(f"{code}\nimport sys\nfrom deepmd.cli import main\nsys.exit(main())\n")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={n}", f"--master-port={free_port()}",
               "dp_here.py", "train", "input.json", *options]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DP_INTRA_OP_PARALLELISM_THREADS": "1"}
    with open(folder / "words.txt", "w") as words:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=words, stderr=words)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def finished(child: subprocess.Popen, folder: Path) -> tuple[int, str]:
    try:
        status = child.wait(timeout=120)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"still running: {(folder / 'words.txt').read_text()}") from None
    return status, (folder / "words.txt").read_text()


def launch(folder: Path, jdata: dict, *options: str, **how) -> str:
    status, words = finished(start(folder, jdata, *options, **how), folder)
    assert status == 0, words
    return words


def differences(a: Path, b: Path) -> float:
    one, other = weights(a / "model.ckpt.pt"), weights(b / "model.ckpt.pt")
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one if one[k].numel())


def test_two_processes_are_one_with_the_double_batch(tmp_path, jdata):
    words = launch(tmp_path / "two", changed(jdata, training__gradient_max_norm=5.0))
    assert "2 processes: each step takes the mean gradient of 2 batches; learning rate times 1" in words
    assert words.count("computing input statistics") == 1 and words.count("saved checkpoint") == 2
    whole = changed(jdata, training__gradient_max_norm=5.0, training__training_data__batch_size=4)
    run(tmp_path / "one", whole)
    assert differences(tmp_path / "one", tmp_path / "two") < 1e-9
    one, two = (np.loadtxt(tmp_path / name / "lcurve.out") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=0.011)  # the rows have three figures
    names = {p.name for p in (tmp_path / "two").iterdir()}
    assert {"out.json", "input_v2_compat.json", "lcurve.out", "lcurve.png", "model.ckpt-6.pt", "checkpoint"} <= names


def test_a_run_of_two_processes_goes_on_where_it_was_left(tmp_path, jdata):
    jdata = changed(jdata, training__seed=None, model__fitting_net__seed=None)  # process 0 draws for all
    launch(tmp_path / "two", jdata)
    whole = weights(tmp_path / "two" / "model.ckpt.pt")
    launch(tmp_path / "two", jdata, "--restart", "model.ckpt-3.pt")
    assert equal(whole, weights(tmp_path / "two" / "model.ckpt.pt"))
    run(tmp_path / "one", changed(jdata, training__numb_steps=8), restart=str(tmp_path / "two" / "model.ckpt-6.pt"))
    assert checkpoint.load(tmp_path / "one" / "model.ckpt.pt")["step"] == 8


def test_the_learning_rate_follows_the_number_of_processes():
    assert [lr_factor(rule, 4) for rule in ("linear", "sqrt", "none")] == [4.0, 2.0, 1.0]
    assert lr_factor("linear", 1) == lr_factor("sqrt", 1) == 1.0


def test_several_tasks_are_trained_by_two_processes(tmp_path, jdata):
    one = jdata["model"]
    training = {key: jdata["training"][key] for key in ("numb_steps", "seed", "disp_freq", "save_freq")}
    own = {"training_data": jdata["training"]["training_data"]}
    shared = {"type_map": ["O", "H"], "descriptor": one["descriptor"]}
    branch = {"type_map": "type_map", "descriptor": "descriptor", "fitting_net": one["fitting_net"]}
    several = {
        "model": {"shared_dict": shared, "model_dict": {"a": branch, "b": branch}},
        "learning_rate": {**jdata["learning_rate"], "scale_by_worker": "none"},
        "loss_dict": {"a": jdata["loss"], "b": jdata["loss"]},
        "training": {**training, "model_prob": {"a": 0.5, "b": 0.5}, "data_dict": {"a": own, "b": own}},
    }
    launch(tmp_path / "two", several)
    for branch in several["training"]["data_dict"].values():
        branch["training_data"] = {**branch["training_data"], "batch_size": 4}
    run(tmp_path / "one", several)
    a, b = (checkpoint.load(tmp_path / name / "model.ckpt.pt")["tasks"]["a"]["model"] for name in ("one", "two"))
    assert max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel()) < 1e-9


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_all_with_one_sentence(tmp_path, jdata, rank):
    code = (
        "import os\nfrom deepmd.train.trainer import Trainer\nfrom deepmd.errors import TrainingError\n"
        "step = Trainer.train_step\n"
        "def broken(self, batch, lr):\n"
        f"    if self.setup.step == 4 and os.environ['RANK'] == '{rank}':\n"
        "        raise TrainingError('the disk is gone')\n"
        "    return step(self, batch, lr)\n"
        "Trainer.train_step = broken"
    )
    status, words = finished(start(tmp_path / "two", jdata, code=code), tmp_path / "two")
    assert status != 0 and words.count("dp: error: ") == 1, words
    assert ("dp: error: the disk is gone" if rank == 0 else "dp: error: process 1 of 2: the disk is gone") in words
    assert checkpoint.find_checkpoint(tmp_path / "two").name == "model.ckpt-3.pt"


def test_bad_input_is_told_once(tmp_path, jdata):
    jdata = changed(jdata, training__training_data__systems=str(tmp_path / "nowhere"))
    status, words = finished(start(tmp_path / "two", jdata), tmp_path / "two")
    assert status != 0 and words.count("dp: error: ") == 1 and "nowhere" in words, words


def test_a_process_that_is_killed_ends_all(tmp_path, jdata):
    code = (
        "import os, signal\nfrom deepmd.train.trainer import Trainer\n"
        "step = Trainer.train_step\n"
        "def broken(self, batch, lr):\n"
        "    if self.setup.step == 4 and os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, lr)\n"
        "Trainer.train_step = broken"
    )
    status, words = finished(start(tmp_path / "two", jdata, code=code), tmp_path / "two")
    assert status != 0 and words.count("dp: error: ") <= 1, words
    assert checkpoint.load(checkpoint.find_checkpoint(tmp_path / "two"))["step"] == 3


def test_a_signal_saves_the_same_step_of_all(tmp_path, jdata):
    folder = tmp_path / "two"
    child = start(folder, changed(jdata, training__numb_steps=100000, training__save_freq=100000))
    curve = folder / "lcurve.out"
    while child.poll() is None and not (curve.exists() and curve.read_text().count("\n") > 4):
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, words = finished(child, folder)
    assert "and stopping; go on with --restart" in words and "dp: error" not in words, words
    assert checkpoint.load(checkpoint.find_checkpoint(folder))["step"] >= 4


def test_weights_that_drift_apart_are_noticed(tmp_path, jdata):
    code = (
        "import os\nimport torch\nfrom deepmd.train.processes import Several\n"
        "average = Several.average\n"
        "def broken(self, parameters):\n"
        "    average(self, parameters)\n"
        "    if self.rank == 1:\n"
        "        parameters[0].grad.add_(1.0)\n"
        "Several.average = broken"
    )
    status, words = finished(start(tmp_path / "two", jdata, code=code), tmp_path / "two")
    assert status != 0 and words.count("the weights of the processes differ at step 3") == 1, words
    assert not (tmp_path / "two" / "model.ckpt.pt").exists()
