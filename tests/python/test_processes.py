"""Several processes that train one model, on the CPU. One test uses torchrun; the others start what it would start."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from deepmd import cli
from deepmd.errors import TrainingError
from deepmd.train import checkpoint
from deepmd.train.processes import Several, lr_factor
from deepmd.train.trainer import Trainer
from training_runs import changed, equal, make_input, one_thread, run, weights

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture
def jdata(tiny_system):
    """Eight frames in batches of two: a pass is two steps of two processes, or two steps of four frames."""
    jdata = make_input(tiny_system(n_frames=8), numb_steps=6, save_freq=3, disp_freq=2)
    return changed(jdata, learning_rate__scale_by_worker="none")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def child(rank: int, port: int, folder: Path, options: tuple[str, ...], change: Callable[[], None] | None) -> None:
    """One of two processes, with the words of both in one file."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    words = os.open(folder / "words.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.chdir(folder)
    if change is not None:
        change()
    sys.exit(cli.main(["train", "input.json", *options]))


def start(folder: Path, jdata: dict, *options: str, change: Callable[[], None] | None = None) -> list:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.json").write_text(json.dumps(jdata))
    context, port = multiprocessing.get_context("forkserver"), free_port()
    context.set_forkserver_preload(["training_runs"])
    with one_thread():
        both = [context.Process(target=child, args=(rank, port, folder, options, change)) for rank in range(2)]
        for one in both:
            one.start()
    return both


def finish(both: list, folder: Path) -> tuple[list[int], str]:
    for one in both:
        one.join(120)
    words = (folder / "words.txt").read_text()
    for one in both:
        if one.is_alive():
            one.kill()
            raise AssertionError(f"still running: {words}")
    return [one.exitcode for one in both], words


def launch(folder: Path, jdata: dict, *options: str) -> str:
    status, words = finish(start(folder, jdata, *options), folder)
    assert status == [0, 0], words
    return words


def differences(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a if a[k].numel())


def test_two_processes_of_torchrun_are_one_with_the_double_batch(tmp_path, jdata):
    jdata, folder = changed(jdata, training__gradient_max_norm=5.0), tmp_path / "two"
    folder.mkdir()
    (folder / "input.json").write_text(json.dumps(jdata))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master-port={free_port()}",
               "-m", "deepmd", "train", "input.json"]  # fmt: skip
    with one_thread():
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    words = done.stdout + done.stderr
    assert done.returncode == 0, words
    assert "2 processes: each step takes the mean gradient of 2 batches; learning rate times 1" in words
    assert words.count("computing input statistics") == 1 and words.count("saved checkpoint") == 2
    run(tmp_path / "one", changed(jdata, training__training_data__batch_size=4))
    assert differences(*(weights(tmp_path / name / "model.ckpt.pt") for name in ("one", "two"))) < 1e-9
    one, two = (np.loadtxt(tmp_path / name / "lcurve.out") for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=0.011)  # the rows have three figures
    names = {p.name for p in folder.iterdir()}
    assert {"out.json", "input_v2_compat.json", "lcurve.out", "lcurve.png", "model.ckpt-6.pt", "checkpoint"} <= names


def test_a_run_of_two_processes_goes_on_where_it_was_left(tmp_path, jdata):
    jdata = changed(jdata, training__seed=None, model__fitting_net__seed=None)  # process 0 draws for all
    launch(tmp_path / "two", jdata)
    whole = weights(tmp_path / "two" / "model.ckpt.pt")
    launch(tmp_path / "two", jdata, "--restart", "model.ckpt-3.pt")
    assert equal(whole, weights(tmp_path / "two" / "model.ckpt.pt"))
    run(tmp_path / "one", changed(jdata, training__numb_steps=8), restart=str(tmp_path / "two" / "model.ckpt-6.pt"))
    assert checkpoint.load(tmp_path / "one" / "model.ckpt.pt")["step"] == 8


def test_the_learning_rate_follows_the_number_of_processes(tmp_path, jdata):
    assert [lr_factor(rule, 4) for rule in ("linear", "sqrt", "none")] == [4.0, 2.0, 1.0]
    assert lr_factor("linear", 1) == lr_factor("sqrt", 1) == 1.0
    words = launch(tmp_path / "two", changed(jdata, learning_rate__scale_by_worker="linear", training__numb_steps=1))
    assert "learning rate times 2" in words


def test_resident_data_are_trained_on_by_two_processes(tmp_path, jdata):
    """Some frames have one type alone, so that the parameters with a gradient differ between processes."""
    folder = Path(jdata["training"]["training_data"]["systems"][0])
    types = np.tile(np.loadtxt(folder / "type.raw", dtype=int), (8, 1))
    types[::3, types[0] == 0] = 1
    np.save(folder / "set.000" / "real_atom_types.npy", types)
    (folder / "type.raw").write_text("0\n" * types.shape[1])
    jdata = changed(jdata, training__training_data__batch_size=1, training__gradient_max_norm=5.0)
    launch(tmp_path / "cpu", jdata)
    assert launch_with(tmp_path / "resident", jdata, use_emulation).count("emulated on the CPU") == 1
    assert differences(*(weights(tmp_path / name / "model.ckpt.pt") for name in ("cpu", "resident"))) < 1e-7


def use_emulation() -> None:
    os.environ["DEVICE"] = "emulated"


def spoil_in_1() -> None:
    use_emulation()
    from deepmd.train.whole_step import WholeStep

    step = WholeStep.step

    def spoilt(self, number, batch, lr, factor=1.0):
        if number == 4 and self.steps.group.rank == 1:
            batch.cache.arena.pages[batch.pages[0]] = float("nan")
        step(self, number, batch, lr, factor)

    WholeStep.step = spoilt


def test_frames_that_are_not_finite_end_all_with_the_sentence_of_their_process(tmp_path, jdata):
    status, words = finish(start(tmp_path, jdata, change=spoil_in_1), tmp_path)
    assert status == [2, 2] and words.count("dp: error: ") == 1, words
    assert "dp: error: process 1 of 2: training stopped at step 4: the loss is nan for " in words
    assert checkpoint.find_checkpoint(tmp_path).name == "model.ckpt-3.pt"


def launch_with(folder: Path, jdata: dict, change: Callable[[], None]) -> str:
    status, words = finish(start(folder, jdata, change=change), folder)
    assert status == [0, 0], words
    return words


def test_several_tasks_are_trained_by_two_processes(tmp_path, jdata):
    one = jdata["model"]
    training = {key: jdata["training"][key] for key in ("numb_steps", "seed", "disp_freq", "save_freq")}
    own = {"training_data": jdata["training"]["training_data"]}
    shared = {"type_map": ["O", "H"], "descriptor": one["descriptor"]}
    branch = {"type_map": "type_map", "descriptor": "descriptor", "fitting_net": one["fitting_net"]}
    several = {
        "model": {"shared_dict": shared, "model_dict": {"a": branch, "b": branch}},
        "learning_rate": jdata["learning_rate"],
        "loss_dict": {"a": jdata["loss"], "b": jdata["loss"]},
        "training": {**training, "model_prob": {"a": 0.5, "b": 0.5}, "data_dict": {"a": own, "b": own}},
    }
    launch(tmp_path / "two", several)
    for branch in several["training"]["data_dict"].values():
        branch["training_data"] = {**branch["training_data"], "batch_size": 4}
    run(tmp_path / "one", several)
    tasks = [checkpoint.load(tmp_path / name / "model.ckpt.pt")["tasks"] for name in ("one", "two")]
    assert all(differences(tasks[0][task]["model"], tasks[1][task]["model"]) < 1e-9 for task in ("a", "b"))


def at_step_4(rank: int, what: Callable[[], None]) -> None:
    """Lets a process do something else in the place of its fifth step."""
    step = Trainer.train_step

    def other(self, batch, lr):
        if self.setup.step == 4 and os.environ["RANK"] == str(rank):
            what()
        return step(self, batch, lr)

    Trainer.train_step = other


def fail() -> None:
    raise TrainingError("the disk is gone")


def fail_in_0() -> None:
    at_step_4(0, fail)


def fail_in_1() -> None:
    at_step_4(1, fail)


def die_in_1() -> None:
    at_step_4(1, lambda: os.kill(os.getpid(), signal.SIGKILL))


def drift_in_1() -> None:
    average = Several.average

    def other(self, parameters):
        average(self, parameters)
        if self.rank == 1:
            parameters[0].grad.add_(1.0)

    Several.average = other


@pytest.mark.parametrize("change", [fail_in_0, fail_in_1])
def test_a_process_that_fails_ends_all_with_one_sentence(tmp_path, jdata, change):
    status, words = finish(start(tmp_path, jdata, change=change), tmp_path)
    assert status == [2, 2] and words.count("dp: error: ") == 1, words
    whose = "" if change is fail_in_0 else "process 1 of 2: "
    assert f"dp: error: {whose}the disk is gone\n" in words
    assert checkpoint.find_checkpoint(tmp_path).name == "model.ckpt-3.pt"


def test_bad_input_is_told_once(tmp_path, jdata):
    jdata = changed(jdata, training__training_data__systems=str(tmp_path / "nowhere"))
    status, words = finish(start(tmp_path / "two", jdata), tmp_path / "two")
    assert status == [2, 2] and words.count("dp: error: ") == 1 and "nowhere" in words, words


def test_a_process_that_is_killed_ends_all(tmp_path, jdata):
    status, words = finish(start(tmp_path, jdata, change=die_in_1), tmp_path)
    assert status == [2, -signal.SIGKILL], words
    assert words.count("dp: error: a process of this training has ended without a word") == 1, words
    assert checkpoint.load(checkpoint.find_checkpoint(tmp_path))["step"] == 3


def test_a_signal_saves_the_same_step_of_all(tmp_path, jdata):
    both = start(tmp_path, changed(jdata, training__numb_steps=100000, training__save_freq=100000))
    curve = tmp_path / "lcurve.out"
    while both[0].is_alive() and not (curve.exists() and curve.read_text().count("\n") > 4):
        time.sleep(0.05)
    os.kill(both[1].pid, signal.SIGTERM)  # to one of them: the other one follows
    status, words = finish(both, tmp_path)
    assert status == [128 + signal.SIGTERM] * 2, words
    assert "SIGTERM: saved step" in words and "dp: error" not in words, words
    assert checkpoint.load(checkpoint.find_checkpoint(tmp_path))["step"] >= 4


def test_weights_that_drift_apart_are_noticed(tmp_path, jdata):
    status, words = finish(start(tmp_path, jdata, change=drift_in_1), tmp_path)
    assert status == [2, 2] and words.count("the weights of the processes differ at step 3") == 1, words
    assert not (tmp_path / "model.ckpt.pt").exists()
