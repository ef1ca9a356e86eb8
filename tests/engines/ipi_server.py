"""A small i-PI server for the tests: it speaks i-PI's protocol as asked, or breaks it on purpose."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# The digits of ipi/utils/units.py; the client has the same in cxx/src/core/units.hpp.
BOHR_PER_ANGSTROM = 1.8897261
HARTREE_PER_EV = 0.036749326
FORCE_PER_EV_PER_ANGSTROM = HARTREE_PER_EV / BOHR_PER_ANGSTROM

ACCEPT_TIMEOUT = 60.0
RECEIVE_TIMEOUT = 60.0


class Connection:
    """One accepted client, with the messages of the protocol as methods. Lengths in A, energies in eV on this side."""

    def __init__(self, peer: socket.socket):
        self.peer = peer
        self.peer.settimeout(RECEIVE_TIMEOUT)
        self.received = b""

    def send(self, data: bytes) -> None:
        self.peer.sendall(data)

    def header(self, name: str) -> None:
        self.send(name.encode().ljust(12))

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.peer.recv(size - len(data))
            if not part:
                raise EOFError("the client closed the connection")
            data += part
        self.received += data
        return data

    def status(self) -> str:
        self.header("STATUS")
        return self.receive(12).decode().strip()

    def init(self, replica: int = 0, text: str = "") -> None:
        self.header("INIT")
        self.send(np.int32(replica).tobytes() + np.int32(len(text)).tobytes() + text.encode())

    def start(self) -> None:
        """STATUS and INIT as i-PI begins."""
        assert self.status() == "NEEDINIT"
        self.init()
        assert self.status() == "READY"

    def posdata(self, cell: np.ndarray, positions: np.ndarray, n_atoms: int | None = None) -> None:
        """cell [3,3] with vectors as rows, positions [n,3], both in A; `n_atoms` may lie."""
        self.header("POSDATA")
        self.send(cell_block(cell))
        self.send(np.int32(len(positions) if n_atoms is None else n_atoms).tobytes())
        self.send((np.asarray(positions, float) * BOHR_PER_ANGSTROM).tobytes())

    def posdata_batch(self, cells: list[np.ndarray], positions: list[np.ndarray]) -> None:
        self.header("POSDATA")
        self.send(np.int32(len(positions[0])).tobytes())
        self.send(b"".join(cell_block(cell) for cell in cells))
        self.send(b"".join((np.asarray(p, float) * BOHR_PER_ANGSTROM).tobytes() for p in positions))

    def getforce(self, n_frames: int = 1) -> list[dict]:
        """GETFORCE and its answer, a frame each: energy (eV), forces [n,3] (eV/A), virial [3,3] (eV), extra."""
        self.header("GETFORCE")
        assert self.receive(12) == b"FORCEREADY  "
        energies = np.frombuffer(self.receive(8 * n_frames)) / HARTREE_PER_EV
        n_atoms = int(np.frombuffer(self.receive(4), np.int32)[0])
        forces = np.frombuffer(self.receive(24 * n_atoms * n_frames)).reshape(n_frames, n_atoms, 3)
        virials = np.frombuffer(self.receive(72 * n_frames)).reshape(n_frames, 3, 3).transpose(0, 2, 1)
        results = []
        for k in range(n_frames):
            length = int(np.frombuffer(self.receive(4), np.int32)[0])
            results.append(
                {
                    "energy": float(energies[k]),
                    "forces": forces[k] / FORCE_PER_EV_PER_ANGSTROM,
                    "virial": virials[k] / HARTREE_PER_EV,
                    "extra": self.receive(length).decode(),
                }
            )
        return results

    def drain(self) -> None:
        """Read until the client closes."""
        try:
            while True:
                self.receive(1)
        except (EOFError, ConnectionError):
            pass


def cell_block(cell: np.ndarray) -> bytes:
    """Cell and inverse as i-PI sends them: vectors as columns, bohr."""
    columns = np.asarray(cell, float).T * BOHR_PER_ANGSTROM
    try:
        inverse = np.linalg.inv(columns)
    except np.linalg.LinAlgError:
        inverse = np.zeros((3, 3))
    return np.ascontiguousarray(columns).tobytes() + np.ascontiguousarray(inverse).tobytes()


class Server:
    """Listens on a unix socket of its own folder, or on a free port of this machine."""

    def __init__(self, unix: bool = True):
        # Below the system's folder for temporary files, since the path of a unix socket may have 107 characters only.
        self.folder = tempfile.mkdtemp(prefix="dpipi")
        self.listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        if unix:
            self.listener.bind(f"{self.folder}/ipi_test")
            self.config = {"use_unix": True, "host": "test", "sockets_prefix": f"{self.folder}/ipi_"}
        else:
            self.listener.bind(("127.0.0.1", 0))
            self.config = {"use_unix": False, "host": "127.0.0.1", "port": self.listener.getsockname()[1]}
        self.listener.listen(8)
        self.listener.settimeout(ACCEPT_TIMEOUT)

    def accept(self) -> Connection:
        return Connection(self.listener.accept()[0])

    def close(self) -> None:
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write_input(folder: Path, settings: dict, names: list[str] | None = None) -> Path:
    """Write the JSON file, and coord_file if names are given."""
    if names is not None:
        lines = [str(len(names)), "names and order only", *[f"{name} 0.0 0.0 0.0" for name in names]]
        (folder / "coord.xyz").write_text("\n".join(lines) + "\n")
    path = folder / "input.json"
    path.write_text(json.dumps(settings, indent=1))
    return path


@dataclass
class Outcome:
    """What became of a client that met a script."""

    code: int
    out: str
    err: str
    received: list[bytes] = field(default_factory=list)
    failure: Exception | None = None


def meet(
    command: list[str],
    settings: dict,
    folder: Path,
    scripts: list[Callable[[Connection], None]],
    names: list[str],
    unix: bool = True,
    timeout: float = 60.0,
) -> Outcome:
    """Run the client against a server that plays the scripts, one a connection, and closes each when it is through."""
    with Server(unix) as server:
        path = write_input(folder, {**settings, **server.config, **settings.get("_override", {})}, names)
        outcome = Outcome(-1, "", "")

        def play() -> None:
            for script in scripts:
                try:
                    connection = server.accept()
                except OSError as error:
                    outcome.failure = error
                    return
                try:
                    script(connection)
                except (EOFError, OSError, AssertionError) as error:
                    outcome.failure = error
                finally:
                    outcome.received.append(connection.received)
                    connection.peer.close()

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        done = subprocess.run(
            [*command, str(path)], cwd=folder, capture_output=True, text=True, errors="replace", timeout=timeout
        )
        server.listener.close()
        thread.join(10.0)
        outcome.code, outcome.out, outcome.err = done.returncode, done.stdout, done.stderr
        return outcome
