#include "model/compression_record.hpp"

#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "model/safetensors.hpp"

namespace deepmd {
namespace {

constexpr int kFormatVersion = 1;

[[noreturn]] void fail(const std::string& reason) {
  throw Error(DEEPMD_ERROR_FORMAT, "has a compression record that cannot be used: " + reason + "; compress the model anew");
}

void check(const CompressionRecord& r) {
  if (!(r.tolerance > 0 && r.tolerance < 1)) fail(text("the tolerance is ", r.tolerance, " eV/Angstrom"));
  if (!(r.table_tolerance > 0 && r.table_tolerance < 1)) fail(text("the table's tolerance is ", r.table_tolerance));
  if (!(r.shortest > 0)) fail(text("the shortest distance is ", r.shortest, " Angstrom"));
}

void read_basis(std::string_view bytes, CompressionRecord& record) {
  const SafeTensors arrays(bytes);
  for (std::size_t k = 0; k < record.ranks.size(); ++k) {
    const std::string name = "basis_" + std::to_string(k);
    const auto& shape = arrays.shape(name);
    if (shape.size() != 2 || shape[0] != record.ranks[k]) fail("the shape of " + name + " does not fit its rank");
    record.basis.push_back(arrays.doubles(name));
  }
}

CompressionRecord parse(std::string_view text_of_record, const ModelFile& file) {
  const auto all = nlohmann::json::parse(text_of_record, nullptr, false);
  if (!all.is_object()) fail("it is not a JSON object");
  CompressionRecord record;
  try {
    const int version = all.at("format_version").get<int>();
    if (version != kFormatVersion) {
      throw Error(DEEPMD_ERROR_VERSION, text("has a compression record of version ", version, ", expected ",
                                             kFormatVersion, "; compress the model anew with this version"));
    }
    const auto kind = all.at("kind").get<std::string>();
    if (kind != "exact" && kind != "spectral") fail("its kind is '" + kind + "', expected exact or spectral");
    record.spectral = kind == "spectral";
    record.tolerance = all.at("tolerance").get<double>();
    record.table_tolerance = all.at("table_tolerance").get<double>();
    record.shortest = all.at("range").at("shortest").get<double>();
    record.force_error = all.at("error").at("force_max").get<double>();
    if (record.spectral) record.ranks = all.at("ranks").get<std::vector<int>>();
  } catch (const nlohmann::json::exception& e) {
    fail(e.what());
  }
  check(record);
  if (record.spectral) {
    const auto basis = file.record("deepmd/compression.safetensors");
    if (!basis) fail("the arrays of the basis are missing");
    read_basis(*basis, record);
  }
  return record;
}

}  // namespace

std::optional<CompressionRecord> read_compression(const ModelFile& file) {
  const auto found = file.record("deepmd/compression.json");
  if (!found) return std::nullopt;
  try {
    return parse(*found, file);
  } catch (const Error& e) {
    throw Error(e.status(), file.path() + " " + e.what());
  }
}

}  // namespace deepmd
