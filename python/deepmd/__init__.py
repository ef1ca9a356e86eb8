"""Deep Potential engine: train, freeze and run many-body potentials from first-principles data."""

__version__ = "0.1.0"
