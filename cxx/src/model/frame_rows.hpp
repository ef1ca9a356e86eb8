#pragma once

#include "model/frame.hpp"

namespace deepmd {

// The frame's list, or, where it has no rows, one of all pairs closer than `radius` among all atoms, with rows for ghosts
// behind those of local atoms, in `found`.
ListView rows_of(const Frame& frame, double radius, NeighborList& found);

}  // namespace deepmd
