"""Fitting networks, one file each."""
