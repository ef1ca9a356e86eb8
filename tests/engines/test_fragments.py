"""Quantum atoms and fragments (pairwise_dprc) through LAMMPS on several ranks, C and C++: ghosts have fragments too."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess

import doors
import numpy as np
import pytest
import test_documented_c as documented
from checks import assert_close
from lammps_run import Job, job_script, run_jobs, run_lammps, write_data
from reference.tiny_models import jittered
from test_lammps_agreement import compare

KEYS = ("energy", "forces", "virial", "atom_energy", "atom_virial")
MASSES = [12.011, 15.999, 15.999, 1.008]
CELL = [[5.3, 0, 0], [0.7, 5.6, 0], [-0.4, 0.5, 21.0]]


@pytest.fixture(scope="module")
def paths(compiled, tmp_path_factory):
    """A model in which fragments out of reach add nothing, and one in which they do."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
    import test_pairwise as pairwise
    from deepmd.freeze import freeze_model

    folder = tmp_path_factory.mktemp("fragments")
    freeze_model(pairwise.make(), folder / "local.pth")
    freeze_model(pairwise.make(False, False), folder / "global.pth")
    return {name: folder / f"{name}.pth" for name in ("local", "global")}


@pytest.fixture(scope="module")
def frame():
    """Longer than two cutoffs, so that no rank of two sees all fragments; ids with gaps, on both sides of borders."""
    frame = jittered(CELL, (2, 2, 9), 2, np.random.default_rng(4))
    frame.ids = np.repeat([4, 0, 9, 12, 0, 31, 2, 0, 7, 0, 5, 40], 3)
    frame.types = np.where(frame.ids > 0, frame.types + 2, frame.types)
    return frame


@pytest.fixture(scope="module")
def judged(paths, frame):
    """What Python says of the whole frame."""
    from deepmd.infer import DeepPot

    def ask(name, changes=None):
        own = dataclasses.replace(frame, **(changes or {}))
        ids = frame.ids.astype(float)
        found = DeepPot(paths[name]).eval(own.positions, own.cell, own.types, aparam=ids, atomic=True)
        return {key: value[0] for key, value in zip(KEYS, found, strict=True)} | {"energy": float(found[0][0, 0])}

    return {name: ask(name) for name in paths} | {"open": ask("local", {"cell": None})}


def job_of(name, frame, path, **options):
    """Fragments as a property of the atoms, which travels with them."""
    lines = [f"set atom {k + 1} i_fragment {fragment}" for k, fragment in enumerate(frame.ids)]
    after = "fix fragments all property/atom i_fragment\n" + "\n".join(lines)
    after += "\ncompute fragment all property/atom i_fragment\n" + options.pop("after_box", "")
    return Job(
        name, frame.positions, frame.types + 1, f"deepmd {path} aparam_from_compute fragment",
        "pair_coeff * * C O OW HW", options.pop("cell", frame.cell), masses=MASSES, after_box=after, **options,
    )  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_lammps_gives_the_numbers_of_whole_frames(ranks, plugin, paths, frame, judged, tmp_path):
    grids = {1: "", 2: "processors 1 1 2", 3: "processors 3 1 1"}
    style = f"hybrid/overlay deepmd {paths['local']} aparam_from_compute fragment zero 3.0"
    coeff = "pair_coeff * * deepmd C O OW HW\npair_coeff * * zero"
    jobs = {
        "periodic": job_of("periodic", frame, paths["local"], before_box=grids[ranks]),
        "open": job_of("open", frame, paths["local"], cell=None),
        "real": job_of("real", frame, paths["local"], units="real"),
        "overlay": dataclasses.replace(job_of("overlay", frame, paths["local"]), style=style, coeff=coeff),
    }
    if ranks == 1:
        jobs["global"] = job_of("global", frame, paths["global"])
    results = run_jobs(list(jobs.values()), tmp_path, ranks)
    for name, job in jobs.items():
        compare(results[name], judged[name if name in judged else "local"], job, len(frame.types))


def test_a_run_is_the_same_on_two_ranks_with_atoms_that_move_between_them(plugin, paths, frame, tmp_path):
    results = []
    for ranks in (1, 2):
        (folder := tmp_path / str(ranks)).mkdir()
        job = job_of(
            "run", frame, paths["local"], steps=12, after_box="neighbor 0.4 bin", before_box="processors 1 1 *",
            before_run="velocity all create 3000 7 loop geom\nvelocity all set NULL NULL 60 sum yes\nfix f all nve\n"
                       "timestep 0.001\nneigh_modify every 3 delay 0 check yes",
        )  # fmt: skip
        results.append(run_jobs([job], folder, ranks)["run"])
    assert np.abs(results[0].positions - results[1].positions).max() < 1e-8
    assert np.abs(results[0].forces - results[1].forces).max() < 1e-8


@pytest.mark.parametrize(("words", "style", "ranks"), [
    ("a fragment out of reach adds energy", "deepmd MODEL aparam_from_compute fragment", 2),
    ("says which fragment an atom belongs to", "deepmd MODEL ttm electrons", 1),
])  # fmt: skip
def test_what_would_be_wrong_is_refused(words, style, ranks, plugin, paths, frame, tmp_path):
    job = job_of("refused", frame, paths["global"], before_box=f"processors 1 1 {ranks}")
    job = dataclasses.replace(job, style=style.replace("MODEL", str(paths["global"])))
    write_data(job, tmp_path / "refused.data")
    outcome = run_lammps(job_script(job), tmp_path, ranks)
    assert outcome.status != 0 and words in outcome.output


def ghosts_of(frame):
    ghosts = doors.with_ghosts(frame, 4.0 + doors.SKIN)
    return ghosts, frame.types[ghosts.owner].astype(np.int32), frame.ids[ghosts.owner].astype(float)[:, None]


def folded(values, owner, n):
    total = np.zeros((n, *np.shape(values)[1:]))
    np.add.at(total, owner, values)
    return total


def test_the_core_with_ghosts(paths, frame, judged):
    from deepmd.core import Model
    from deepmd.errors import DeepmdError

    (ghosts, types, ids), n = ghosts_of(frame), len(frame.types)
    model = Model(str(paths["local"]))
    options = {"atomic": True, "n_local": n, "list": (ghosts.first, ghosts.index)}
    found = model.evaluate(ghosts.positions, types, aparam=ids, **options)
    found["forces"] = folded(found["forces"], ghosts.owner, n)
    found["atom_virial"] = folded(np.reshape(found["atom_virial"], (-1, 9)), ghosts.owner, n)
    for key in KEYS:
        assert_close(np.ravel(found[key]), np.ravel(judged["local"][key]), "doors")
    with pytest.raises(DeepmdError, match="aparam"):
        model.evaluate(ghosts.positions, types, aparam=ids[:n], **options)
    with pytest.raises(DeepmdError, match="a fragment out of reach adds energy"):
        Model(str(paths["global"])).evaluate(ghosts.positions, types, aparam=ids, **options)
    named = {**options, "list": (ghosts.first, ghosts.index, None, ghosts.owner.astype(np.int32))}
    found = Model(str(paths["global"])).evaluate(ghosts.positions, types, aparam=ids, **named)
    assert_close(found["energy"], np.ravel(judged["global"]["energy"])[0], "doors")


def test_the_c_interface_of_deepmd_kit_with_ghosts(paths, frame, judged):
    library = documented.Library()
    (ghosts, types, ids), n = ghosts_of(frame), len(frame.types)
    model = library.new("DP_NewDeepPot", str(paths["local"]))
    assert library.text("DP_DeepPotCheckOK", model) == ""
    assert library.call("DP_DeepPotIsAParamNAll", model, answer=ctypes.c_bool)
    rows = [np.ascontiguousarray(ghosts.index[a:b]) for a, b in zip(ghosts.first[:-1], ghosts.first[1:], strict=True)]
    pointers = (ctypes.POINTER(ctypes.c_int) * n)(*[row.ctypes.data_as(ctypes.POINTER(ctypes.c_int)) for row in rows])
    counts, order = np.array([len(row) for row in rows], np.int32), np.arange(n, dtype=np.int32)
    neighbors = library.new("DP_NewNlist", n, order, counts, pointers)
    energy, forces = np.zeros(1), np.zeros((len(types), 3))
    positions = np.ascontiguousarray(ghosts.positions)
    library.call("DP_DeepPotComputeNList2", model, 1, len(types), positions, types, None, len(types) - n, neighbors, 0,
                 None, ids, energy, forces, None, None, None)  # fmt: skip
    assert library.text("DP_DeepPotCheckOK", model) == ""
    assert_close(energy, np.ravel(judged["local"]["energy"]), "doors")
    assert_close(folded(forces, ghosts.owner, n), judged["local"]["forces"], "doors")
    library.call("DP_DeleteNlist", neighbors)
    library.call("DP_DeleteDeepPot", model)


def test_cpp_on_whole_frames(paths, frame, judged, tmp_path):
    frame = dataclasses.replace(frame, aparam=frame.ids.astype(float)[:, None])
    path = doors.write_frames({"whole": frame}, tmp_path, ["whole"])
    program = doors.build_program("cpp", library_name="deepmd_cc")
    done = subprocess.run([program, paths["global"], path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    for line, key in zip(done.stdout.splitlines(), KEYS, strict=True):
        assert_close(np.array(line.split(), float), np.ravel(judged["global"][key]), "doors")
