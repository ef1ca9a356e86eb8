"""Networks, descriptors, fittings and models in torch: the plain formulas, scriptable; the judge of fast paths."""
