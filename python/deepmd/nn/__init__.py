"""Networks, descriptors, fittings and models in torch: the plain formulas, scriptable, and the judge of the fast paths."""
