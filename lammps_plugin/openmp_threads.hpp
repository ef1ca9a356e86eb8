// The OpenMP threads of LAMMPS itself, which wait for their next loop by spinning.
#pragma once

namespace deepmd {

// Sends them to rest, so that they leave the cores to the threads of the engine: after each parallel loop of LAMMPS (it wraps positions
// with one whenever it rebuilds its list) libgomp lets them spin for up to some ten milliseconds. The next loop makes them anew, in tens
// of microseconds. Results and settings stay as they are; without OpenMP 5 this does nothing.
void rest_openmp_threads();

}  // namespace deepmd
