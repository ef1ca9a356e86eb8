#include "model/model.hpp"

#include "core/error.hpp"
#include "model/pair_blocks.hpp"
#include "model/request_checks.hpp"
#include "model/selftest.hpp"

namespace deepmd {

Model::Model(ModelFile file, const PathChoice& choice)
    : file_(std::move(file)), neighbors_(file_.metadata().rcut, 0.0) {
  if (metadata().kind != "energy") {
    throw Error(DEEPMD_ERROR_UNSUPPORTED, text(file_.path(), " holds a model of kind '", metadata().kind,
                                               "', expected 'energy'; use a newer deepmd-engine"));
  }
  path_ = open_path(file_, choice);
}

void Model::evaluate(const Request& request, const Result& result) {
  Request filled = request;
  complete(filled, neighbors_);
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
  path_.potential->evaluate(frame, result);
  check_finite(frame, result);
}

double Model::selftest() {
  double worst = 0;
  for (const SelftestFrame& frame : file_.selftest_frames()) {
    const SelftestFrame computed = recompute(*this, frame);
    worst = std::max(worst, compare_selftest(frame, computed, path_.selftest_tolerance, file_.path()));
  }
  return worst;
}

}  // namespace deepmd
