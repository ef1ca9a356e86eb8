"""Errors that a user can meet. Each message is one sentence: what, got, expected, remedy."""

from __future__ import annotations


class DeepmdError(Exception):
    """Base of all errors that are the user's to mend; the command line prints them without a traceback."""

    code = "DP_ERROR"

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        if code is not None:
            self.code = code


class InputError(DeepmdError):
    """Something is wrong in input.json or on the command line."""

    code = "DP_ERROR_INPUT"


class DataError(DeepmdError):
    """Something is wrong in a data folder."""

    code = "DP_ERROR_DATA"


class ModelError(DeepmdError):
    """A model file cannot be used: damaged, another format, another version."""

    code = "DP_ERROR_MODEL"


class EngineError(DeepmdError):
    """The compiled core refused a call or a result."""

    code = "DP_ERROR_ENGINE"


class TrainingError(DeepmdError):
    """Training had to stop."""

    code = "DP_ERROR_TRAINING"


class Reported(DeepmdError):
    """This process has to end, and another one has said why."""

    code = "DP_ERROR_REPORTED"
