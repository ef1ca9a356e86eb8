"""Training data: systems, the sampler, checks and converters."""

from deepmd.data.expand import load_systems
from deepmd.data.sampler import Sampler
from deepmd.data.system import System
from deepmd.data.write import write_system

__all__ = ["Sampler", "System", "load_systems", "write_system"]
