#include "pair_settings.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>

namespace deepmd {
namespace {

/// Walks over the words; each keyword handler takes what belongs to it.
class WordReader {
 public:
  explicit WordReader(const std::vector<std::string>& words) : words_(words) {}

  bool at_end() const { return next_ == words_.size(); }
  const std::string& peek() const { return words_[next_]; }
  const std::string& take() { return words_[next_++]; }

  const std::string& take_value(const std::string& keyword) {
    if (at_end()) {
      throw SettingsError("pair_style deepmd: keyword '" + keyword + "' is the last word, but a value must follow it");
    }
    return take();
  }

 private:
  const std::vector<std::string>& words_;
  size_t next_ = 0;
};

bool parse_number(const std::string& word, double* value) {
  if (word.empty()) return false;
  errno = 0;
  char* end = nullptr;
  *value = std::strtod(word.c_str(), &end);
  return end == word.c_str() + word.size() && errno == 0 && std::isfinite(*value);
}

double take_number(WordReader& words, const std::string& keyword) {
  const std::string& word = words.take_value(keyword);
  double value = 0.0;
  if (!parse_number(word, &value)) {
    throw SettingsError("pair_style deepmd: keyword '" + keyword + "' needs a number, got '" + word + "'");
  }
  return value;
}

std::string format_level(double level) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", level);
  return text;
}

double take_level(WordReader& words, const std::string& keyword) {
  const double value = take_number(words, keyword);
  if (value < 0.0) throw SettingsError("pair_style deepmd: the level of '" + keyword + "' must not be negative");
  return value;
}

int take_frequency(WordReader& words, const std::string& keyword) {
  const double value = take_number(words, keyword);
  if (value < 0.0 || value != std::floor(value) || value > 2e9) {
    throw SettingsError("pair_style deepmd: keyword '" + keyword + "' needs a whole number of steps, 0 for never");
  }
  return static_cast<int>(value);
}

std::string take_one_of(WordReader& words, const std::string& keyword, const std::vector<std::string>& known) {
  const std::string& word = words.take_value(keyword);
  std::string list;
  for (const auto& each : known) {
    if (word == each) return word;
    list += (list.empty() ? "" : ", ") + each;
  }
  throw SettingsError("pair_style deepmd: keyword '" + keyword + "' needs one of " + list + ", got '" + word + "'");
}

bool take_switch(WordReader& words, const std::string& keyword) {
  const std::string& word = words.take_value(keyword);
  if (word == "on" || word == "yes") return true;
  if (word == "off" || word == "no") return false;
  throw SettingsError("pair_style deepmd: keyword '" + keyword + "' needs on or off, got '" + word + "'");
}

/// Takes numbers up to the next word that is none.
std::vector<double> take_numbers(WordReader& words, const std::string& keyword) {
  std::vector<double> values;
  double value = 0.0;
  while (!words.at_end() && parse_number(words.peek(), &value)) {
    values.push_back(value);
    words.take();
  }
  if (values.empty()) {
    const std::string got = words.at_end() ? "the end of the line" : "'" + words.peek() + "'";
    throw SettingsError("pair_style deepmd: keyword '" + keyword + "' needs numbers, got " + got);
  }
  return values;
}

[[noreturn]] void refuse(const std::string& keyword, const std::string& reason) {
  throw SettingsError("pair_style deepmd: keyword '" + keyword + "' is not supported: " + reason);
}

/// stop_above LEVEL [checks N]
void take_stop_rule(WordReader& words, PairSettings& settings) {
  settings.stop_above = take_level(words, "stop_above");
  if (words.at_end() || words.peek() != "checks") return;
  words.take();
  settings.stop_checks = take_frequency(words, "stop_above ... checks");
  if (settings.stop_checks < 1) {
    throw SettingsError("pair_style deepmd: 'stop_above ... checks' is 0, but it takes at least one check to stop");
  }
}

/// select LOW HIGH FOLDER or FILE.extxyz
void take_selection(WordReader& words, PairSettings& settings) {
  settings.select_low = take_level(words, "select");
  settings.select_high = take_level(words, "select");
  if (settings.select_low >= settings.select_high) {
    throw SettingsError("pair_style deepmd: 'select' takes frames from the lower level up to the higher one, but got " +
                        format_level(settings.select_low) + " and " + format_level(settings.select_high) +
                        "; write the lower one first");
  }
  settings.select_path = words.take_value("select");
  double number = 0.0;
  if (parse_number(settings.select_path, &number)) {
    throw SettingsError("pair_style deepmd: 'select' needs a folder or a file name after its two levels, got '" +
                        settings.select_path + "'");
  }
}

using Handler = std::function<void(WordReader&, PairSettings&)>;

const std::vector<std::pair<std::string, Handler>>& keyword_table() {
  using W = WordReader;
  using S = PairSettings;
  static const std::vector<std::pair<std::string, Handler>> table = {
      {"fparam", [](W& w, S& s) { s.fparam = take_numbers(w, "fparam"); }},
      {"aparam", [](W& w, S& s) { s.aparam = take_numbers(w, "aparam"); }},
      {"fparam_from_compute", [](W& w, S& s) { s.fparam_compute = w.take_value("fparam_from_compute"); }},
      {"aparam_from_compute", [](W& w, S& s) { s.aparam_compute = w.take_value("aparam_from_compute"); }},
      {"out_file", [](W& w, S& s) { s.out_file = w.take_value("out_file"); }},
      {"out_freq", [](W& w, S& s) { s.out_freq = take_frequency(w, "out_freq"); }},
      {"atomic", [](W&, S& s) { s.atomic = true; }},
      {"relative", [](W& w, S& s) { s.relative = take_level(w, "relative"); }},
      {"relative_v", [](W& w, S& s) { s.relative_v = take_level(w, "relative_v"); }},
      {"stop_above", take_stop_rule},
      {"select", take_selection},
      {"path", [](W& w, S& s) { s.path = take_one_of(w, "path", {"auto", "fused", "cuda", "script"}); }},
      {"precision", [](W& w, S& s) { s.precision = take_one_of(w, "precision", {"float64", "mixed", "tf32"}); }},
      {"observers", [](W& w, S& s) { s.observers = take_one_of(w, "observers", {"float64", "mixed", "tf32"}); }},
      {"masscheck", [](W& w, S& s) { s.mass_check = take_switch(w, "masscheck"); }},
      {"selftest", [](W& w, S& s) { s.selftest = take_switch(w, "selftest"); }},
      {"fparam_from_fix", [](W&, S&) { refuse("fparam_from_fix", "use fparam_from_compute with a compute"); }},
      {"ttm", [](W& w, S& s) { s.ttm_fix = w.take_value("ttm"); }},
      {"charge_spin", [](W&, S&) { refuse("charge_spin", "give the values by fparam"); }},
      {"virtual_len", [](W&, S&) { refuse("virtual_len", "it belongs to spin models"); }},
      {"spin_norm", [](W&, S&) { refuse("spin_norm", "it belongs to spin models"); }},
  };
  return table;
}

const Handler* find_keyword(const std::string& word) {
  for (const auto& entry : keyword_table()) {
    if (entry.first == word) return &entry.second;
  }
  return nullptr;
}

/// Number of single-letter edits between two words (Levenshtein).
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

[[noreturn]] void fail_unknown_keyword(const std::string& word) {
  std::string closest;
  size_t best = 3;
  for (const auto& entry : keyword_table()) {
    const size_t distance = edit_distance(word, entry.first);
    if (distance < best) {
      best = distance;
      closest = entry.first;
    }
  }
  std::string message = "pair_style deepmd: unknown keyword '" + word + "'";
  if (!closest.empty()) {
    message += ", did you mean '" + closest + "'?";
  } else {
    message += "; the keywords are:";
    for (const auto& entry : keyword_table()) message += " " + entry.first;
  }
  throw SettingsError(message);
}

/// A second "model file" without a dot or a slash is a misspelt keyword rather than a file.
void require_file_name(const std::string& word) {
  double number = 0.0;
  if (word.find_first_of("./") == std::string::npos || parse_number(word, &number)) fail_unknown_keyword(word);
}

void check_exclusive(const PairSettings& settings) {
  if (!settings.fparam.empty() && !settings.fparam_compute.empty()) {
    throw SettingsError("pair_style deepmd: fparam and fparam_from_compute exclude each other; keep one of them");
  }
  if (!settings.aparam.empty() + !settings.aparam_compute.empty() + !settings.ttm_fix.empty() > 1) {
    throw SettingsError("pair_style deepmd: aparam, aparam_from_compute and ttm exclude each other; keep one of them");
  }
}

/// What acts on deviations needs deviations.
void check_deviation_use(const PairSettings& settings) {
  if (!settings.observers.empty() && settings.models.size() < 2) {
    throw SettingsError("pair_style deepmd: keyword 'observers' is about the models beside the first one, but there is "
                        "one model; name at least two, or write 'precision'");
  }
  const char* keyword = settings.stop_above >= 0.0 ? "stop_above" : !settings.select_path.empty() ? "select" : nullptr;
  if (keyword == nullptr) return;
  if (settings.models.size() < 2) {
    throw SettingsError("pair_style deepmd: keyword '" + std::string(keyword) +
                        "' acts on the deviation between models, but there is one model; name at least two");
  }
  if (settings.out_freq == 0) {
    throw SettingsError("pair_style deepmd: keyword '" + std::string(keyword) +
                        "' acts on deviations, but out_freq 0 turns them off; give the number of steps between them");
  }
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

struct ParameterKind {
  const char* keyword;
  int dimension;
  bool optional;
};

void check_count(const std::vector<double>& values, bool from_compute, const ParameterKind& kind,
                 const std::string& model) {
  const std::string keyword = kind.keyword;
  const std::string count = std::to_string(kind.dimension);
  if (kind.dimension == 0) {
    if (values.empty() && !from_compute) return;
    throw SettingsError("pair_style deepmd: model " + model + " takes no " + keyword + "; remove the keyword");
  }
  if (from_compute) return;
  if (values.empty()) {
    if (kind.optional) return;
    throw SettingsError("pair_style deepmd: model " + model + " needs " + count + " number(s) of " + keyword +
                        "; write '" + keyword + "' and the numbers, or " + keyword + "_from_compute");
  }
  if (static_cast<int>(values.size()) != kind.dimension) {
    throw SettingsError("pair_style deepmd: " + keyword + " needs exactly " + count + " number(s) for model " + model +
                        ", got " + std::to_string(values.size()));
  }
}

}  // namespace

PairSettings parse_pair_settings(const std::vector<std::string>& words) {
  PairSettings settings;
  WordReader reader(words);
  while (!reader.at_end() && find_keyword(reader.peek()) == nullptr) settings.models.push_back(reader.take());
  if (settings.models.empty()) {
    throw SettingsError("pair_style deepmd: no model file given; write 'pair_style deepmd graph.pth'");
  }
  for (size_t k = 1; k < settings.models.size(); ++k) require_file_name(settings.models[k]);
  while (!reader.at_end()) {
    const std::string& keyword = reader.take();
    const Handler* handler = find_keyword(keyword);
    if (handler == nullptr) fail_unknown_keyword(keyword);
    (*handler)(reader, settings);
  }
  check_exclusive(settings);
  check_deviation_use(settings);
  return settings;
}

void check_parameter_counts(const PairSettings& settings, const ModelFacts& model) {
  if (settings.ttm_as_fparam && (!settings.fparam.empty() || !settings.fparam_compute.empty())) {
    throw SettingsError("pair_style deepmd: the model takes no aparam, so that ttm gives its fparam; remove fparam");
  }
  check_count(settings.fparam, !settings.fparam_compute.empty() || settings.ttm_as_fparam,
              {"fparam", model.dim_fparam, model.has_default_fparam}, model.name);
  const bool ttm_as_aparam = !settings.ttm_fix.empty() && !settings.ttm_as_fparam;
  check_count(settings.aparam, !settings.aparam_compute.empty() || ttm_as_aparam, {"aparam", model.dim_aparam, false}, model.name);
}

std::vector<int> map_elements(const std::vector<std::string>& names, const std::vector<std::string>& type_map,
                              int n_atom_types) {
  if (static_cast<int>(names.size()) != n_atom_types) {
    throw SettingsError("pair_coeff: got " + std::to_string(names.size()) + " name(s) for " +
                        std::to_string(n_atom_types) +
                        " atom type(s); write one per type, and NULL for a type that the model must not see");
  }
  std::vector<int> map;
  for (const auto& name : names) {
    if (name == "NULL") {
      map.push_back(-1);
      continue;
    }
    const auto found = std::find(type_map.begin(), type_map.end(), name);
    if (found == type_map.end()) {
      throw SettingsError("pair_coeff: element " + name + " not found in the model, which knows: " + join(type_map));
    }
    map.push_back(static_cast<int>(found - type_map.begin()));
  }
  return map;
}

}  // namespace deepmd
