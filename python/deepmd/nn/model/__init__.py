"""Models: what is trained, frozen and evaluated.

Every model is called as `model(vectors, centers, neighbors, types, n_centers, fparam, aparam)` with the pairs of one or
several frames (see `deepmd.nn.model.energy.Potential.forward`) and returns a dictionary, eager and scripted alike:

    kind      atomic output                     pair_gradient                       value of the frame
    energy    atom_energy [n_centers]           [n_pairs, 3]                        sum
    spin      atom_energy [n_centers]           [n_pairs, 3], and
                                                spin_gradient [n_all, 3]            sum
    dipole    atom_dipole [n_centers, 3]        [n_pairs, 3, 3]                     sum
    polar     atom_polar [n_centers, 9]         [n_pairs, 9, 3]                     sum
    dos       atom_dos [n_centers, width]       none                                sum
    property  atom_property [n_centers, width]  none                                sum, or mean if intensive

pair_gradient[p, c] is the derivative of the summed component c by the vector of pair p. Energy models also have
`atom_energy`, the others `atom_output`, called with the same arguments, which give the atomic output as one tensor and
no derivatives; models with spins take `spin [n_all, 3]` as one more argument. `facts()` gives kind, cutoff and
dimensions, `serialize()` the neutral tree. Adding a kind means a file here and a line in `deepmd.nn.model.build`.
"""

from deepmd.nn.model.build import build, deserialize

__all__ = ["build", "deserialize"]
