"""The table of scripts that hostile servers play against dp_ipi: what they do, and what is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ipi_fixtures import CELL, POSITIONS
from ipi_server import Connection, cell_block


@dataclass
class Script:
    """`play` drives one connection; then the client is to exit with `code`, saying `words`, after `answers` answers."""

    play: Callable[[Connection], None]
    code: int
    words: tuple[str, ...] = ()
    answers: int = 0
    settings: dict = field(default_factory=dict)


def after_start(*parts: bytes, wait: bool = True) -> Callable[[Connection], None]:
    """STATUS and INIT, then raw bytes, then wait for the client to close (or close first)."""

    def play(connection: Connection) -> None:
        connection.start()
        for part in parts:
            connection.send(part)
        if wait:
            connection.drain()

    return play


def raw(*parts: bytes, wait: bool = True) -> Callable[[Connection], None]:
    """Bytes from the very beginning."""

    def play(connection: Connection) -> None:
        for part in parts:
            connection.send(part)
        if wait:
            connection.drain()

    return play


def header(name: str) -> bytes:
    return name.encode().ljust(12)


def int32(*values: int) -> bytes:
    return np.array(values, np.int32).tobytes()


def posdata(n_atoms: int = 6, positions: np.ndarray = POSITIONS, cell: np.ndarray = CELL) -> bytes:
    """One POSDATA message followed by GETFORCE, as i-PI 3.3 sends them; lengths in A."""
    wire = np.asarray(positions, float) * 1.8897261
    return header("POSDATA") + cell_block(cell) + int32(n_atoms) + wire.tobytes() + header("GETFORCE")


def changed(atom: int, axis: int, value: float) -> np.ndarray:
    positions = POSITIONS.copy()
    positions[atom, axis] = value
    return positions


def good_work(connection: Connection) -> None:
    connection.start()
    for step in range(3):
        connection.posdata(CELL, POSITIONS + 0.01 * step)
        assert connection.status() == "HAVEDATA"
        connection.getforce()
        assert connection.status() == "READY"
    connection.header("EXIT")


def impatient_work(connection: Connection) -> None:
    """POSDATA without a question first, and INIT again in the middle: allowed."""
    connection.posdata(CELL, POSITIONS)
    connection.getforce()
    connection.init(5, "a : 1, b : 2")
    connection.posdata(CELL, POSITIONS)
    connection.posdata(CELL, POSITIONS)
    connection.getforce()
    connection.header("EXIT")


def long_init(connection: Connection) -> None:
    assert connection.status() == "NEEDINIT"
    connection.init(-1, "x" * 20000)
    assert connection.status() == "READY"
    connection.header("EXIT")


def changing_count(connection: Connection) -> None:
    connection.start()
    connection.posdata(CELL, POSITIONS)
    connection.getforce()
    connection.posdata(CELL, POSITIONS[:5])
    connection.drain()


def byte_by_byte(connection: Connection) -> None:
    """Every byte in a packet of its own: slow, but right."""
    connection.start()
    for byte in posdata()[:-12]:
        connection.send(bytes([byte]))
    connection.getforce()
    connection.header("EXIT")


def stops_reading(connection: Connection) -> None:
    """Asks for answers and never takes them, until the client's send buffer is full."""
    connection.start()
    connection.peer.settimeout(3.0)
    try:
        for _ in range(20000):
            connection.send(header("STATUS") * 1000)
    except OSError:
        pass
    time.sleep(0.2)


def two_getforces(connection: Connection) -> None:
    connection.start()
    connection.posdata(CELL, POSITIONS)
    connection.getforce()
    connection.header("GETFORCE")
    connection.drain()


def shared_memory(connection: Connection) -> None:
    """What i-PI sends with mode='shm'."""
    connection.start()
    names = [f"ipi_shm_12345_11_{kind}".encode() for kind in ("pos", "h", "ih", "pot", "force", "vir")]
    connection.send(header("POSDATA") + int32(6) + b"".join(int32(len(name)) + name for name in names))
    connection.send(header("GETFORCE"))
    connection.drain()


NAN, INF = float("nan"), float("inf")
BATCH = (int32(0, 12), b"batch_size:2")

SCRIPTS: dict[str, Script] = {
    "work, then EXIT": Script(good_work, 0, answers=3),
    "EXIT at once": Script(raw(header("EXIT")), 0),
    "POSDATA without STATUS, INIT twice": Script(impatient_work, 0, answers=2),
    "one byte a packet": Script(byte_by_byte, 0, answers=1),
    "INIT of 20,000 bytes": Script(long_init, 0),
    "closes at once": Script(raw(wait=False), 5, ("closed the connection without EXIT",)),
    "closes after INIT": Script(after_start(wait=False), 5, ("closed the connection without EXIT",)),
    "closes in a header": Script(after_start(b"POSD", wait=False), 5, ("in the middle of a message", "a header")),
    "closes in POSDATA": Script(
        after_start(posdata()[:300], wait=False), 5, ("in the middle of a message", "the positions of POSDATA")
    ),
    "closes before it takes the forces": Script(after_start(posdata(), wait=False), 5, ("dp_ipi: the",)),
    "stalls in a header": Script(after_start(b"POSD"), 6, ("4 of 12 bytes", "nothing for 1 s")),
    "stalls in POSDATA": Script(after_start(posdata()[:100]), 6, ("nothing for 1 s",)),
    "stalls in INIT": Script(raw(header("INIT"), int32(0, 50), b"abc"), 6, ("3 of 50 bytes", "the text of INIT")),
    "silent for longer than idle_timeout": Script(
        after_start(), 6, ("no message from the server for 0.5 s", "idle_timeout"), settings={"idle_timeout": 0.5}
    ),
    "never reads": Script(stops_reading, 6, ("the server took", "raise timeout")),
    "INIT of length -5": Script(raw(header("INIT"), int32(0, -5)), 7, ("INIT announces a text of -5 characters",)),
    "INIT of 2 GB": Script(raw(header("INIT"), int32(0, 2**31 - 1)), 7, ("2147483647 characters",)),
    "INIT with batch_size 0": Script(
        raw(header("INIT"), int32(0, 12), b"batch_size:0"), 7, ("batch_size '0'", "expected 1 to 4096")
    ),
    "INIT with batch_size -3": Script(raw(header("INIT"), int32(0, 13), b"batch_size:-3"), 7, ("batch_size '-3'",)),
    "INIT with a huge batch_size": Script(
        raw(header("INIT"), int32(0, 21), b"batch_size:9999999999"), 7, ("batch_size '9999999999'",)
    ),
    "INIT with a batch_size of letters": Script(
        raw(header("INIT"), int32(0, 15), b"batch_size: two"), 7, ("batch_size 'two'",)
    ),
    "unknown header": Script(after_start(header("HELLO")), 7, ("unexpected header 'HELLO       '", "is the server")),
    "header in small letters": Script(after_start(header("status")), 7, ("unexpected header 'status",)),
    "header of control characters": Script(after_start(b"\x1b[2J\x00\x07\xff\xfeabcd"), 7, (r"\x1b[2J\x00\x07\xff",)),
    "HTTP": Script(raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 7, ("unexpected header 'GET / HTTP/1",)),
    "GETFORCE before POSDATA": Script(after_start(header("GETFORCE")), 7, ("GETFORCE came before POSDATA",)),
    "GETFORCE twice": Script(two_getforces, 7, ("GETFORCE came before POSDATA",), answers=1),
    "shared memory": Script(shared_memory, 7, ("mode 'shm'", "mode='unix'")),
    "too many atoms": Script(after_start(posdata(200)), 8, ("sends 200 atoms, coord_file has 6",)),
    "too few atoms": Script(after_start(posdata(5)), 8, ("sends 5 atoms, coord_file has 6",)),
    "no atoms": Script(after_start(posdata(0)), 8, ("sends 0 atoms",)),
    "negative number of atoms": Script(after_start(posdata(-6)), 8, ("sends -6 atoms",)),
    "2e9 atoms": Script(after_start(posdata(2_000_000_000)), 8, ("sends 2000000000 atoms",)),
    "other number of atoms in the second step": Script(changing_count, 8, ("sends 5 atoms",), answers=1),
    "wrong number of atoms in a batch": Script(
        raw(header("INIT"), *BATCH, header("POSDATA"), int32(7)), 8, ("7 atoms",)
    ),
    "NaN position": Script(after_start(posdata(positions=changed(3, 1, NAN))), 9, ("y = nan Angstrom for atom 4 (O)",)),
    "infinite position": Script(
        after_start(posdata(positions=changed(5, 2, -INF))), 9, ("z = -inf Angstrom for atom 6 (H)",)
    ),
    "position of 1e300": Script(after_start(posdata(positions=changed(0, 0, 1e300))), 9, ("x = 1e+300", "atom 1 (O)")),
    "atoms on top of each other": Script(
        after_start(posdata(positions=POSITIONS[[0, 1, 2, 3, 4, 1]])), 9, ("atom 2 and", "atom 6 are 0 Angstrom apart")
    ),
    "all atoms at the origin": Script(
        after_start(posdata(positions=POSITIONS * 0)), 9, ("atom 1 and", "are 0 Angstrom apart")
    ),
    "NaN cell": Script(after_start(posdata(cell=CELL * NAN)), 9, ("cell with the element nan",)),
    "infinite cell": Script(after_start(posdata(cell=np.diag([INF, 9, 9]))), 9, ("cell with the element inf",)),
    "singular cell": Script(
        after_start(posdata(cell=np.diag([9.0, 9.0, 0.0]))), 9, ("degenerate cell", '"pbc": false')
    ),
    "cell of zeros": Script(after_start(posdata(cell=np.zeros((3, 3)))), 9, ("degenerate cell",)),
    "parallel cell vectors": Script(after_start(posdata(cell=np.ones((3, 3)) * 9)), 9, ("degenerate cell",)),
    "left-handed cell": Script(after_start(posdata(cell=CELL[[1, 0, 2]])), 9, ("left-handed",)),
    "tiny cell": Script(after_start(posdata(cell=np.eye(3) * 1e-3)), 9, ("degenerate cell, 0.001 Angstrom thick",)),
}
