#include "model/metadata.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.hpp"

namespace deepmd {
namespace {

constexpr int kFormatVersion = 1;

[[noreturn]] void fail(const std::string& reason) {
  throw Error(DEEPMD_ERROR_FORMAT, "has metadata that cannot be used: " + reason + "; freeze the model anew");
}

SpinFacts parse_spin(const nlohmann::json& given, std::size_t n_types) {
  SpinFacts spin;
  spin.scale = given.at("virtual_scale").get<std::vector<double>>();
  spin.reach = given.at("reach").get<double>();
  if (spin.scale.size() != n_types) fail("virtual_scale has not one number for each type");
  return spin;
}

OutputFacts parse_output(const nlohmann::json& given, int n_types) {
  OutputFacts output;
  if (given.is_null()) return output;
  output.name = given.at("name").get<std::string>();
  output.width = given.at("width").get<int>();
  output.is_mean = given.at("reduce").get<std::string>() == "mean";
  output.has_derivatives = given.at("derivatives").get<bool>();
  for (int t = 0; t < n_types; ++t) output.sel_types.push_back(t);
  output.sel_types = given.value("sel_type", output.sel_types);
  if (output.width < 1) fail(text("the width of its output is ", output.width, ", expected at least 1"));
  return output;
}

void check(const Metadata& m) {
  if (m.type_map.empty()) fail("type_map is empty");
  if (!(m.rcut > 0 && m.rcut < 1e6)) fail(text("rcut is ", m.rcut, ", expected a positive length"));
  if (!(m.receptive_field >= m.rcut && m.receptive_field < 1e6)) {
    fail(text("receptive_field is ", m.receptive_field, ", expected at least rcut = ", m.rcut));
  }
  if (m.dim_fparam < 0 || m.dim_aparam < 0) fail("a dimension is negative");
  if (!m.default_fparam.empty() && m.default_fparam.size() != static_cast<std::size_t>(m.dim_fparam)) {
    fail(text("default_fparam has ", m.default_fparam.size(), " numbers, expected dim_fparam = ", m.dim_fparam));
  }
  if (!(m.selftest_tolerance > 0 && m.selftest_tolerance < 1)) {
    fail(text("the self-test tolerance is ", m.selftest_tolerance, ", expected a number between 0 and 1"));
  }
}

}  // namespace

Metadata parse_metadata(std::string_view json) {
  const auto all = nlohmann::json::parse(json, nullptr, false);
  if (!all.is_object()) fail("it is not a JSON object");
  Metadata m;
  try {
    const int version = all.at("format_version").get<int>();
    if (version != kFormatVersion) {
      throw Error(DEEPMD_ERROR_VERSION,
                  text("has format version ", version, ", expected ", kFormatVersion,
                       "; use the version of deepmd-engine that wrote it, or freeze the model anew"));
    }
    m.kind = all.at("kind").get<std::string>();
    m.type_map = all.at("type_map").get<std::vector<std::string>>();
    m.rcut = all.at("rcut").get<double>();
    m.dim_fparam = all.at("dim_fparam").get<int>();
    m.dim_aparam = all.at("dim_aparam").get<int>();
    m.selftest_tolerance = all.at("selftest").at("tolerance").get<double>();
    if (const auto& given = all.value("default_fparam", nlohmann::json()); !given.is_null()) {
      m.default_fparam = given.get<std::vector<double>>();
    }
    if (const auto& given = all.value("min_pair_distance", nlohmann::json()); !given.is_null()) {
      m.min_pair_distance = given.get<double>();
    }
    m.passes_messages = all.value("passes_messages", false);
    m.receptive_field = all.value("receptive_field", m.rcut);
    if (const auto& given = all.value("modifier", nlohmann::json()); !given.is_null()) {
      m.modifier = given.at("type").get<std::string>();
      m.ewald_beta = given.at("ewald_beta").get<double>();
    }
    const nlohmann::json output = all.value("output", nlohmann::json());
    if (m.has_spins()) {
      m.spin = parse_spin(output, m.type_map.size());
    } else {
      m.output = parse_output(output, static_cast<int>(m.type_map.size()));
    }
  } catch (const nlohmann::json::exception& e) {
    fail(e.what());
  }
  m.json = json;
  check(m);
  return m;
}

}  // namespace deepmd
