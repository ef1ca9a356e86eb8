"""`dp compress`: the tolerance holds on frames that it has not seen, and other models are refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checks import assert_close
from reference.tiny_models import Frame, Options, jittered, make_tree

CELL = np.diag([6.4, 6.6, 6.8])
MODELS = {
    "two-sided": Options(neuron=[6, 12, 24], axis_neuron=4),
    "one-sided, dt": Options(neuron=[6, 12, 24], axis_neuron=4, one_side=True, embedding_dt=True, activation="gelu"),
    "exclusions": Options(neuron=[6, 12, 24], pair_exclude=[[0, 1]], seed=4),
    "excluded rows": Options(neuron=[6, 12, 24], descriptor_exclude=[[0, 0]], seed=5),
    "parameters": Options(neuron=[6, 12, 24], n_fparam=1, n_aparam=1, seed=6),
}
TOLERANCE = {"spectral": 1e-5, "exact": 1e-8}  # eV/A; the first is coarser than usual, as 24 outputs are few


def frames_of(options: Options, n: int, seed: int) -> list[Frame]:
    """Dense frames of 27 atoms that are never closer than about 1 Angstrom."""
    rng = np.random.default_rng(seed)
    frames = [jittered(CELL, (3, 3, 3), len(options.type_map), rng) for _ in range(n)]
    for frame in frames:
        frame.types = np.arange(len(frame.types)) % len(options.type_map)
        frame.fparam = rng.normal(0.5, 0.3, options.n_fparam) if options.n_fparam else None
        frame.aparam = rng.normal(0.5, 0.3, (len(frame.types), options.n_aparam)) if options.n_aparam else None
    return frames


def write_data(folder: Path, options: Options, frames: list[Frame]) -> str:
    from deepmd.data import write_system

    data = {
        "positions": np.array([frame.positions for frame in frames]),
        "cell": np.array([frame.cell for frame in frames]),
    }
    for key, dim in (("fparam", options.n_fparam), ("aparam", options.n_aparam)):
        if dim:
            data[key] = np.array([getattr(frame, key) for frame in frames])
    return str(write_system(folder, frames[0].types, options.type_map, data))


def freeze(options: Options, path: Path) -> str:
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    freeze_model(deserialize(make_tree(options)), path)
    return str(path)


@pytest.fixture(scope="module", params=list(MODELS))
def model(request, compiled, tmp_path_factory):
    """Options, a frozen model and data to measure on."""
    folder, options = tmp_path_factory.mktemp("model"), MODELS[request.param]
    data = write_data(folder / "data", options, frames_of(options, 8, 1))
    return options, freeze(options, folder / "graph.pth"), data


@pytest.fixture(scope="module", params=["spectral", "exact"])
def compressed(request, model, tmp_path_factory):
    """Options, the frozen model, the compressed one and its record."""
    from deepmd.compress import Options as How
    from deepmd.compress import compress_file

    options, path, data = model
    output = tmp_path_factory.mktemp(request.param) / "small.pth"
    how = How(exact=request.param == "exact", tolerance=TOLERANCE[request.param], data=[data])
    record = compress_file(path, output, how)
    return options, path, str(output), record


def test_the_tolerance_holds_on_fresh_frames(compressed, compiled) -> None:
    options, path, output, record = compressed
    before, after = compiled.Model(path, path="fused"), compiled.Model(output, path="fused")
    assert record["kind"] in after.path_description and record["error"]["force_max"] <= record["tolerance"] / 2
    for frame in frames_of(options, 10, 77):
        expected, got = before.evaluate(**frame.as_input()), after.evaluate(**frame.as_input())
        assert np.abs(got["forces"] - expected["forces"]).max() <= record["tolerance"]
        assert after.n_outside == 0


def test_the_script_path_of_a_compressed_file_is_the_whole_model(compressed, compiled) -> None:
    options, path, output, _ = compressed
    before, after = compiled.Model(path, path="script"), compiled.Model(output, path="script")
    frame = frames_of(options, 1, 5)[0]
    expected, got = before.evaluate(**frame.as_input()), after.evaluate(**frame.as_input())
    assert got["energy"] == expected["energy"] and np.array_equal(got["forces"], expected["forces"])


def test_closer_pairs_are_answered_by_the_network_with_one_warning(compressed, compiled, caplog) -> None:
    from deepmd.infer import DeepPot

    options, path, output, record = compressed
    if options.pair_exclude or options.descriptor_exclude:
        pytest.skip("the close pair of this frame is an excluded one")
    frame = frames_of(options, 1, 9)[0]
    away = np.array([0.6, 0.3, 0.2])
    frame.positions[1] = frame.positions[0] + away * record["range"]["shortest"] * 0.6 / np.linalg.norm(away)
    before, after = compiled.Model(path, path="fused"), compiled.Model(output, path="fused")
    expected, got = before.evaluate(**frame.as_input(), atomic=True), after.evaluate(**frame.as_input(), atomic=True)
    assert after.n_outside >= 2
    centers = [0, 1]  # these saw the pair: no projection, the networks themselves
    assert_close(got["atom_energy"][centers], expected["atom_energy"][centers], "doors")
    scale = max(1.0, float(np.abs(expected["forces"]).max()))
    for key in ("forces", "virial", "atom_virial"):
        assert np.abs(got[key] - expected[key]).max() <= 10 * record["tolerance"] * scale
    potential = DeepPot(output, path="fused")
    for _ in range(2):
        potential.evaluate_frame(**frame.as_input())
    warnings = [entry.getMessage() for entry in caplog.records if "outside of the range" in entry.getMessage()]
    assert len(warnings) == 1 and f"{after.n_outside} pairs" in warnings[0]


def test_energy_and_forces_go_on_smoothly_through_the_end_of_the_table(compressed, compiled) -> None:
    """A pair is pulled through the distance where the table ends: no jump beyond the tolerance."""
    options, _, output, record = compressed
    if options.n_fparam:
        pytest.skip("one model of each kind is enough")
    model, end = compiled.Model(output, path="fused"), record["range"]["shortest"]
    results = []
    for r in (end - 1e-9, end + 1e-9):
        positions = np.array([[0.0, 0, 0], [r, 0, 0], [0.5, 2.0, 0.3]])
        results.append(model.evaluate(positions, np.array([1, 1, 0])))
    scale = max(1.0, float(np.abs(results[0]["forces"]).max()))
    assert np.abs(results[0]["forces"] - results[1]["forces"]).max() <= 2 * record["tolerance"] * scale
    assert abs(results[0]["energy"] - results[1]["energy"]) <= record["tolerance"] * scale


def test_forces_are_the_slope_of_the_energy_everywhere(compressed, compiled) -> None:
    """A scan over many intervals of the table: a kink of energy or force would show as a difference."""
    options, _, output, record = compressed
    model = compiled.Model(output, path="fused")
    frame = frames_of(options, 1, 21)[0]
    parameters = {key: getattr(frame, key) for key in ("fparam", "aparam")}
    parameters["aparam"] = None if frame.aparam is None else frame.aparam[:2]
    types, h = np.array([1, 1]), 1e-4

    def at(r: float) -> dict:
        return model.evaluate(np.array([[0.0, 0, 0], [r, 0, 0]]), types, **parameters)

    for r in np.linspace(record["range"]["shortest"] + 0.01, options.rcut + 0.01, 60):
        near, far = (at(r + k * h)["energy"] - at(r - k * h)["energy"] for k in (1, 2))
        numeric = (8 * near - far) / (12 * h)
        assert abs(numeric + at(r)["forces"][1, 0]) <= 1e-6


def test_a_compressed_model_is_not_compressed_again(compressed, tmp_path) -> None:
    from deepmd.compress import Options as How
    from deepmd.compress import compress_file
    from deepmd.errors import ModelError

    with pytest.raises(ModelError, match="compressed already"):
        compress_file(compressed[2], tmp_path / "again.pth", How())


def test_mixed_precision_of_a_compressed_model(compressed, compiled) -> None:
    options, path, output, _ = compressed
    before, after = compiled.Model(path, path="fused"), compiled.Model(output, path="fused", precision="mixed")
    frame = frames_of(options, 1, 31)[0]
    expected, got = before.evaluate(**frame.as_input()), after.evaluate(**frame.as_input())
    scale = max(1.0, float(np.abs(expected["forces"]).max()))
    assert_close(got["forces"], expected["forces"], "mixed precision", scale)


# --------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def plain(compiled, tmp_path_factory):
    folder, options = tmp_path_factory.mktemp("plain"), MODELS["two-sided"]
    data = write_data(folder / "data", options, frames_of(options, 6, 1))
    return freeze(options, folder / "graph.pth"), data


def run(*words: str) -> int:
    from deepmd.cli import main

    return main(["compress", *map(str, words)])


def test_the_command_takes_the_documented_options_and_prints_its_trials(plain, tmp_path, capfd) -> None:
    from deepmd import model_file

    path, data = plain
    words = ("-i", path, "-o", tmp_path / "out", "-s", "0.02", "-e", "6", "-f", "10", "-c", tmp_path, "--data", data)
    assert run(*words, "--tolerance", "1e-4") == 0
    record = model_file.read(tmp_path / "out.pth").compression
    assert record["options"] == {"step": 0.02, "extrapolate": 6, "frequency": 10} and record["kind"] == "spectral"
    printed = capfd.readouterr().err
    assert "largest force error" in printed and "fused: spectral basis" in printed


def test_validation_data_of_the_training_script_are_used(plain, tmp_path, capfd) -> None:
    path, data = plain
    script = tmp_path / "input.json"
    script.write_text(json.dumps({"training": {"validation_data": {"systems": [data]}}}))
    assert run("-i", path, "-o", tmp_path / "out.pth", "-t", script, "--tolerance", "1e-4") == 0
    assert "(validation data)" in capfd.readouterr().err


def test_pairs_that_the_data_lack_are_named(plain, tmp_path, capfd) -> None:
    options = Options()
    frames = frames_of(options, 2, 5)
    for frame in frames:
        frame.positions, frame.types = frame.positions[frame.types == 0], frame.types[frame.types == 0]
    data = write_data(tmp_path / "one", options, frames)
    assert run("-i", plain[0], "-o", tmp_path / "out.pth", "--data", data, "--tolerance", "1e-4") == 0
    assert "the data hold no neighbours O-H, H-H, so that the tolerance is not measured" in capfd.readouterr().err


def test_without_data_stored_frames_and_perturbations_serve(plain, tmp_path, capfd) -> None:
    assert run("-i", plain[0], "-o", tmp_path / "out.pth", "--exact", "--tolerance", "1e-6") == 0
    assert "stored frames and their perturbations" in capfd.readouterr().err


def test_a_tolerance_out_of_reach_is_refused_and_nothing_is_written(plain, tmp_path, capfd) -> None:
    words = ("-i", plain[0], "-o", tmp_path / "out.pth", "--data", plain[1])
    assert run(*words, "--rank", "2") == 2
    assert "the largest force error of P 2 is" in capfd.readouterr().err
    assert run(*words, "--exact", "--tolerance", "1e-16") == 2
    assert "nothing was written" in capfd.readouterr().err
    assert run(*words, "--rank", "25") == 2
    assert "expected 1 to 24" in capfd.readouterr().err
    assert not (tmp_path / "out.pth").exists()


def test_a_model_of_another_kind_is_refused_with_the_reason(compiled, tmp_path, capfd) -> None:
    path = freeze(Options(activation="relu"), tmp_path / "relu.pth")
    assert run("-i", path, "-o", tmp_path / "out.pth") == 2
    assert "kinks" in capfd.readouterr().err


def test_show_tells_the_compression_and_its_error(plain, tmp_path, capfd) -> None:
    from deepmd.cli import main

    assert run("-i", plain[0], "-o", tmp_path / "out.pth", "--data", plain[1], "--exact") == 0
    assert main(["show", str(tmp_path / "out.pth"), "size"]) == 0
    printed = capfd.readouterr().err
    assert "compression     : exact table, tolerance 1e-08 eV/A, measured" in printed
    assert "path            : fused: exact table" in printed


def test_a_damaged_record_is_found(plain, tmp_path, compiled) -> None:
    from deepmd import model_file
    from deepmd.errors import ModelError

    content = model_file.verify(plain[0])
    wrong = {"format_version": 2, "kind": "exact"}
    records = {model_file.COMPRESSION: json.dumps(wrong).encode()}
    (tmp_path / "new.pth").write_bytes(model_file.with_records(content, records))
    with pytest.raises(ModelError, match="compression record of version 2"):
        compiled.Model(str(tmp_path / "new.pth"))
