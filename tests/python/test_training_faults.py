"""A training run that is cut off: killed, told to stop, out of disk."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from deepmd.errors import TrainingError
from deepmd.train import checkpoint
from training_runs import changed, equal, make_input, run, start_child, weights

pytestmark = pytest.mark.usefixtures("compiled")
N_TRIALS = int(os.environ.get("DEEPMD_KILL_TRIALS", "6"))
N_STEPS = 25


@pytest.fixture
def jdata(tiny_system):
    return make_input(tiny_system(n_frames=7), numb_steps=N_STEPS, save_freq=1, disp_freq=5, max_ckpt_keep=3)


def test_kill_9_at_any_point_leaves_a_run_that_resumes_to_the_same_weights(tmp_path, jdata):
    """Every step saves, so many of the kills fall inside a save."""
    run(tmp_path / "whole", jdata)
    expected = weights(tmp_path / "whole" / "model.ckpt.pt")
    timed = start_child(tmp_path / "timed", jdata)
    wait_for(tmp_path / "timed" / "lcurve.out")
    begin = time.monotonic()
    wait_for(tmp_path / "timed" / f"model.ckpt-{N_STEPS}.pt")
    length = time.monotonic() - begin
    timed.join()
    rng = np.random.default_rng(5)
    cut_off = 0
    for trial in range(N_TRIALS):
        folder = tmp_path / f"trial{trial}"
        child = start_child(folder, jdata)
        wait_for(folder / "lcurve.out")
        time.sleep(float(rng.uniform(0.0, 0.9)) * length)
        child.kill()
        child.join()
        saved = checkpoint.family(folder / "model.ckpt")
        for path in saved:
            checkpoint.load(path)  # whole, or it would be refused
        cut_off += bool(saved) and saved[-1].name != f"model.ckpt-{N_STEPS}.pt"
        run(folder, jdata, restart="model.ckpt" if (folder / "model.ckpt.pt").exists() else None)
        assert equal(weights(folder / "model.ckpt.pt"), expected), f"trial {trial} ended with other weights"
        assert len(np.loadtxt(folder / "lcurve.out")) == 1 + N_STEPS // 5
    assert cut_off > N_TRIALS // 4, f"only {cut_off} of {N_TRIALS} kills fell between the first and the last save"


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.002)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_leave_with_the_usual_status(tmp_path, jdata, number):
    run(tmp_path / "whole", changed(jdata, training__numb_steps=150, training__save_freq=1000))
    folder = tmp_path / "stopped"
    jdata = changed(jdata, training__numb_steps=150, training__save_freq=1000)
    child = start_child(folder, jdata)
    while not (folder / "lcurve.out").exists() or "      5" not in (folder / "lcurve.out").read_text():
        time.sleep(0.01)
    os.kill(child.pid, number)
    child.join()
    assert child.exitcode == 128 + number
    (saved,) = checkpoint.family(folder / "model.ckpt")
    assert 5 <= checkpoint.load(saved)["step"] < 150
    run(folder, jdata, restart="model.ckpt")
    assert equal(weights(folder / "model.ckpt.pt"), weights(tmp_path / "whole" / "model.ckpt.pt"))


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(tmp_path, jdata):
    """A limit on the size of a file stands in for the full disk: the write fails half way in the same place."""
    folder = tmp_path / "a"
    run(folder, changed(jdata, training__numb_steps=3))
    size = (folder / "model.ckpt-3.pt").stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, old[1]))
    try:
        with pytest.raises(TrainingError, match=r"model.ckpt-4.pt: cannot write \d+ bytes: File too large"):
            run(folder, changed(jdata, training__numb_steps=6), restart="model.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoint.find_checkpoint(folder).name == "model.ckpt-3.pt"
    assert checkpoint.load(folder / "model.ckpt.pt")["step"] == 3
    assert not list(folder.glob(".*.tmp"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path, jdata):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "out").write_text("a file, not a folder")
    with pytest.raises(TrainingError, match="checkpoint not saved"):
        run(tmp_path / "a", changed(jdata, training__save_ckpt="out/model.ckpt", training__numb_steps=1))
