"""Descriptors, one file each."""
