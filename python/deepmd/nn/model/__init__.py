"""Models: what is trained, frozen and evaluated."""

from deepmd.nn.model.build import build, deserialize

__all__ = ["build", "deserialize"]
