"""Where the words of the program go: lines on stderr, and a file if one is asked for."""

from __future__ import annotations

import logging
import os
import sys

LEVELS = {
    **dict.fromkeys(("DEBUG", "3"), logging.DEBUG),
    **dict.fromkeys(("INFO", "2"), logging.INFO),
    **dict.fromkeys(("WARNING", "1"), logging.WARNING),
    **dict.fromkeys(("ERROR", "0"), logging.ERROR),
}
MPI_LOG = ("master", "collect", "workers")

CONSOLE_FORMAT = "[%(asctime)s] DEEPMD %(levelname)-7s %(message)s"
FILE_FORMAT = "[%(asctime)s] DEEPMD %(levelname)-7s %(name)-45s %(message)s"
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


def rank() -> int:
    """Number of this process among those that were started together; 0 when it runs alone."""
    for name in _RANKS:
        text = os.environ.get(name, "")
        if text.isdigit():
            return int(text)
    return 0


def setup(level: str = "INFO", path: str | None = None, mpi_log: str = "master") -> None:
    """Send the messages of all `deepmd` loggers to stderr and to `path`.

    `level` is a name or its digit (0 ERROR to 3 DEBUG). With `mpi_log` master only process 0 writes; with collect and
    workers all do: collect puts the number of the process into each line, workers gives each one its own file.
    """
    from deepmd.errors import InputError

    logger = logging.getLogger("deepmd")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    logger.setLevel(LEVELS[level])
    number = rank()
    if number > 0 and mpi_log == "master":
        logger.addHandler(logging.NullHandler())
        return
    mark = f"{number} " if mpi_log == "collect" else ""
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter(mark + CONSOLE_FORMAT))
    logger.addHandler(console)
    if path is None:
        return
    name = f"{path}_{number}" if mpi_log == "workers" and number > 0 else path
    try:
        file = logging.FileHandler(name, mode="a" if mpi_log == "collect" else "w", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"--log-path: got '{name}', expected a file that can be written ({error.strerror}); choose another"
        ) from None
    file.setFormatter(logging.Formatter(mark + FILE_FORMAT))
    logger.addHandler(file)
