"""Deep Potential engine: train, freeze and run many-body potentials from first-principles data."""

__version__ = "0.1.0"


def DeepPotential(*args, **kwargs):  # noqa: N802 the established name
    """Opens a model of any kind; the same as `deepmd.infer.DeepPotential`, which is imported when it is called."""
    from deepmd.infer import DeepPotential as open_any

    return open_any(*args, **kwargs)
