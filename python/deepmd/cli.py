"""The command `dp`: reads the command line, sets up messages and hands over to the function of the command.

Nothing heavy is imported here; each command imports what it needs.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys

from deepmd import log
from deepmd.cli_commands import COMMANDS
from deepmd.cli_parser import parse
from deepmd.errors import DeepmdError, Reported

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command and give the exit status. Errors of the user's are one line on stderr, without a traceback."""
    try:
        return _run(argv)
    except Reported:
        return EXIT_ERROR
    except DeepmdError as error:
        print(f"dp: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR
    except MemoryError:
        print("dp: error: the memory does not suffice; use smaller batches or fewer frames", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("dp: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output stopped reading, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # no file of the user's: a bug
        problem = f"{error.filename or 'a file'}: {error.strerror}"
        print(f"dp: error: {problem}; mend the path, its permissions or the free space", file=sys.stderr)
        return EXIT_ERROR


def _run(argv: list[str] | None) -> int:
    args, parser = parse(argv, COMMANDS)
    if args.command is None:
        parser.print_help()
        return 0
    log.setup(args.log_level, args.log_path, getattr(args, "mpi_log", "master"))
    target = next(one.target for one in COMMANDS if one.name == args.command)
    module, _, function = target.partition(":")
    result = getattr(importlib.import_module(module), function)(args)
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
