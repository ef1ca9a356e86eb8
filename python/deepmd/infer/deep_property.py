"""Properties from Python."""

from __future__ import annotations

from deepmd.infer.deep_scalars import DeepScalars


class DeepProperty(DeepScalars):
    """The property that the model was trained on; see `DeepScalars`."""

    kind = "property"

    def get_var_name(self) -> str:
        """Name of the property."""
        return str(self.metadata["output"]["name"])

    def get_task_dim(self) -> int:
        """How many numbers the property is."""
        return self.width

    def get_intensive(self) -> bool:
        """Whether the value of a frame is the mean of its atomic parts, not their sum."""
        return self.metadata["output"]["reduce"] == "mean"
