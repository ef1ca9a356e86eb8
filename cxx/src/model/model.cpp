#include "model/model.hpp"

#include "core/error.hpp"
#include "model/frame_rows.hpp"
#include "model/pair_blocks.hpp"
#include "model/request_checks.hpp"
#include "model/selftest.hpp"

namespace deepmd {

namespace {

bool is_known(const Metadata& metadata) {
  if (metadata.has_energy()) return true;
  for (const char* kind : {"dipole", "polar", "dos", "property"}) {
    if (metadata.kind == kind) return metadata.output.width > 0;
  }
  return false;
}

}  // namespace

Model::Model(ModelFile file, const PathChoice& choice)
    : file_(std::move(file)), neighbors_(file_.metadata().rcut, 0.0) {
  if (!is_known(metadata())) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED,
                text(file_.path(), " holds a model of kind '", metadata().kind,
                     "', expected energy, spin, pairwise_dprc, dipole, polar, dos or property; use a newer deepmd-engine"));
  }
  path_ = open_path(file_, choice);
}

void Model::evaluate(const Request& request, const Result& result) {
  Request filled = request;
  complete(filled, neighbors_);
  if (!on_device()) filled.frame.list = rows_of(filled.frame, metadata().rcut, found_);
  evaluate_checked(filled.frame, result);
}

void Model::complete(Request& request, Neighbors& neighbors) const {
  Frame& frame = request.frame;
  if (!frame.fparam && !metadata().default_fparam.empty()) frame.fparam = metadata().default_fparam.data();
  check_request(request, metadata());
  if (request.has_list) return;
  neighbors.update(frame.n_local, frame.positions, frame.cell, request.pbc);
  frame.list = ListView(neighbors.list());
}

void Model::evaluate_checked(const Frame& frame, const Result& result) {
  if (!metadata().has_energy()) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text(file_.path(), " predicts '", metadata().kind,
                                               "', expected a model of energies; ask for its output instead"));
  }
  path_.potential->evaluate(seen_by_model(frame), result);
  check_finite(frame, result);
}

void Model::evaluate_output(const Request& request, const OutputResult& result) {
  const OutputFacts& output = metadata().output;
  if (metadata().has_energy()) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED,
                file_.path() + " predicts energies, expected a model of another kind; ask for energies instead");
  }
  if (result.wants_derivatives() && !output.has_derivatives) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text(file_.path(), " predicts '", metadata().kind,
                                               "', whose derivatives it does not give; leave them out"));
  }
  Request filled = request;
  complete(filled, neighbors_);
  filled.frame.list = rows_of(filled.frame, metadata().rcut, found_);
  path_.potential->evaluate_output(seen_by_model(filled.frame), result);
  check_finite(filled.frame, result, static_cast<std::size_t>(output.width));
}

// Rows of ghosts are for models that pass messages, which need them unless each ghost is the image of a local atom.
Frame Model::seen_by_model(const Frame& frame) const {
  Frame seen = frame;
  if (!metadata().passes_messages || frame.list.owners) {
    seen.list.n_centers = frame.n_local;
  } else if (frame.n_ghost > 0 && (metadata().has_spins() || metadata().has_fragments())) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED,
                text(file_.path(), " has ", metadata().has_spins() ? "spins" : "fragments",
                     " and passes messages between atoms, which needs the owners of ghosts; run it on one rank"));
  } else if (frame.n_ghost > 0 && static_cast<std::size_t>(frame.list.n_centers) != frame.n_all()) {
    throw Error(DEEPMD_ERROR_ARGUMENT,
                text(file_.path(), " passes messages between atoms, but the neighbour list has rows for local atoms only; "
                     "pass rows for ghosts too, out to ", metadata().receptive_field, " Angstrom, or the owners of ghosts"));
  }
  return seen;
}

double Model::selftest() {
  double worst = 0;
  for (const SelftestFrame& frame : file_.selftest_frames()) {
    const SelftestFrame computed = recompute(*this, frame);
    worst = std::max(worst, compare_selftest(frame, computed, path_.selftest_tolerance, file_.path()));
  }
  const DevicePotential* const on_gpu = on_device();
  if (on_gpu && !on_gpu->why_lost().empty()) {
    throw Error(DEEPMD_ERROR_SELFTEST, text(file_.path(), " cannot be tested on the GPU: ", on_gpu->why_lost(), "; use the path fused"));
  }
  return worst;
}

}  // namespace deepmd
