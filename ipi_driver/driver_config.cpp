#include "driver_config.hpp"

#include <sys/un.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

using nlohmann::json;

const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> keys = {
      "verbose",      "use_unix", "port",      "host",           "graph_file",      "coord_file", "atom_type",
      "timeout",      "pbc",      "reconnect", "sockets_prefix", "connect_timeout", "skin",       "idle_timeout",
      "check_names",  "fparam",   "aparam",    "n_threads",      "gpu_rank",
      "path",         "precision"};
  return keys;
}

// Levenshtein distance.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

std::string nearest_key(const std::string& key) {
  const std::string shortened = key.substr(0, 64);
  return *std::min_element(known_keys().begin(), known_keys().end(),
                           [&](const std::string& left, const std::string& right) {
                             return edit_distance(shortened, left) < edit_distance(shortened, right);
                           });
}

std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

// Typed access to one JSON object; each refusal names the file, the key, what was got and what was expected.
class Reader {
 public:
  Reader(const json& data, std::string path) : data_(data), path_(std::move(path)) {}

  [[noreturn]] void fail(const std::string& sentence) const {
    throw DriverError(ExitCode::kConfig, path_ + ": " + sentence);
  }
  [[noreturn]] void wrong(const std::string& key, const std::string& expected) const {
    fail("\"" + key + "\" is " + shown(data_.at(key)) + ", expected " + expected);
  }
  bool has(const std::string& key) const { return data_.contains(key); }
  const json& at(const std::string& key) const { return data_.at(key); }

  void require(const std::string& key, const std::string& meaning) const {
    if (!has(key)) {
      fail("the key \"" + key + "\" is missing; it gives " + meaning);
    }
  }
  void read(const std::string& key, bool& value) const {
    if (has(key)) {
      if (!at(key).is_boolean()) {
        wrong(key, "true or false");
      }
      value = at(key).get<bool>();
    }
  }
  void read(const std::string& key, std::string& value) const {
    if (has(key)) {
      if (!at(key).is_string() || at(key).get<std::string>().empty()) {
        wrong(key, "a text that is not empty");
      }
      value = at(key).get<std::string>();
      if (value.find('\0') != std::string::npos) {
        wrong(key, "a text without null characters");
      }
    }
  }
  void read(const std::string& key, std::string& value, const std::vector<std::string>& known) const {
    read(key, value);
    if (has(key) && std::find(known.begin(), known.end(), value) == known.end()) {
      std::string list;
      for (const std::string& word : known) {
        list += (list.empty() ? "" : ", ") + word;
      }
      wrong(key, "one of " + list);
    }
  }
  void read(const std::string& key, int& value, int low, int high) const {
    if (has(key)) {
      const json& entry = at(key);
      const bool fits = entry.is_number_integer() && entry.get<double>() >= low && entry.get<double>() <= high;
      if (!fits) {
        wrong(key, "an integer from " + std::to_string(low) + " to " + std::to_string(high));
      }
      value = entry.get<int>();
    }
  }
  void read_amount(const std::string& key, double& value, const std::string& unit, double high) const {
    if (has(key)) {
      const bool fits = at(key).is_number() && at(key).get<double>() >= 0.0 && at(key).get<double>() <= high;
      if (!fits) {
        std::ostringstream expected;
        expected << "a number of " << unit << " from 0 to " << high;
        wrong(key, expected.str());
      }
      value = at(key).get<double>();
    }
  }
  void read(const std::string& key, std::vector<double>& values) const {
    if (!has(key)) {
      return;
    }
    const json& entry = at(key);
    const json list = entry.is_array() ? entry : json::array({entry});
    for (const json& item : list) {
      if (!item.is_number() || !std::isfinite(item.get<double>())) {
        wrong(key, "a list of numbers");
      }
      values.push_back(item.get<double>());
    }
  }

 private:
  const json& data_;
  std::string path_;
};

void check_keys(const Reader& reader, const json& data) {
  for (const auto& [key, value] : data.items()) {
    const bool known = std::find(known_keys().begin(), known_keys().end(), key) != known_keys().end();
    if (!known && key.rfind("_comment", 0) != 0) {
      reader.fail("unknown key \"" + key.substr(0, 64) + "\"; did you mean \"" + nearest_key(key) +
                  "\"? (keys that begin with _comment are ignored)");
    }
  }
}

void read_pbc(const Reader& reader, std::array<int, 3>& pbc) {
  if (!reader.has("pbc")) {
    return;
  }
  const json& entry = reader.at("pbc");
  const bool three = entry.is_array() && entry.size() == 3 &&
                     std::all_of(entry.begin(), entry.end(), [](const json& flag) { return flag.is_boolean(); });
  if (!entry.is_boolean() && !three) {
    reader.wrong("pbc", "true, false or three of them");
  }
  for (std::size_t a = 0; a < 3; ++a) {
    pbc[a] = (three ? entry[a] : entry).get<bool>();
  }
}

void read_atom_type(const Reader& reader, std::map<std::string, int>& atom_type) {
  const json& entry = reader.at("atom_type");
  const auto refuse = [](const std::string& sentence) {
    throw DriverError(ExitCode::kAtoms, "invalid atom_type configuration: " + sentence);
  };
  if (!entry.is_object() || entry.empty()) {
    refuse("got " + shown(entry) + ", expected an object of names and type indices such as {\"O\": 0, \"H\": 1}");
  }
  for (const auto& [name, type] : entry.items()) {
    if (name.rfind("_comment", 0) == 0) {
      continue;
    }
    const bool index = type.is_number_integer() && type.get<double>() >= 0 &&
                       type.get<double>() <= std::numeric_limits<int>::max();
    if (!index) {
      refuse("\"" + name.substr(0, 64) + "\" is " + shown(type) +
             ", expected the index of a type in the model's type_map, counted from 0");
    }
    atom_type[name] = type.get<int>();
  }
}

void check_address(const Reader& reader, const Address& address) {
  const std::size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  if (address.use_unix && address.unix_path().size() > longest) {
    reader.fail("\"host\" makes the socket path " + address.unix_path().substr(0, 40) + "... which has " +
                std::to_string(address.unix_path().size()) + " characters: File name too long; at most " +
                std::to_string(longest) + " are allowed, choose a shorter address in i-PI and here");
  }
}

// Parses, and refuses a key that stands twice in one object (JSON would let the last one win).
json parse_json(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> seen;
  std::string repeated;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      seen.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      seen.pop_back();
    } else if (event == json::parse_event_t::key && !seen.back().insert(parsed.get<std::string>()).second) {
      repeated = parsed.get<std::string>();
    }
    return true;
  };
  try {
    json data = json::parse(text, watch);
    if (!repeated.empty()) {
      throw DriverError(ExitCode::kConfig, path + ": the key \"" + repeated.substr(0, 64) + "\" is given twice");
    }
    return data;
  } catch (const json::exception& error) {
    std::string reason = error.what();
    reason.erase(0, reason.find("] ") == std::string::npos ? 0 : reason.find("] ") + 2);
    throw DriverError(ExitCode::kConfig, path + " is not valid JSON: " + reason.substr(0, 300));
  }
}

}  // namespace

std::string Address::text() const {
  return use_unix ? "the unix socket " + unix_path() : host + ", port " + std::to_string(port);
}

DriverConfig parse_config(const std::string& text, const std::string& path) {
  const json data = parse_json(text, path);
  const Reader reader(data, path);
  if (!data.is_object()) {
    reader.fail("the file holds " + shown(data) + ", expected an object { ... }");
  }
  check_keys(reader, data);
  DriverConfig config;
  config.echo = data.dump(4, ' ', false, json::error_handler_t::replace);
  reader.require("use_unix", "the kind of socket (true: a unix socket, false: an internet socket)");
  reader.require("host", "the address in the ffsocket block of i-PI's input");
  reader.require("graph_file", "the frozen model");
  reader.require("coord_file", "an XYZ file with the names of the atoms in i-PI's order");
  reader.require("atom_type", "the type index of each atom name");
  reader.read("verbose", config.verbose);
  reader.read("use_unix", config.address.use_unix);
  reader.read("host", config.address.host);
  reader.read("sockets_prefix", config.address.sockets_prefix);
  if (!config.address.use_unix) {
    reader.require("port", "the port in the ffsocket block of i-PI's input");
  }
  reader.read("port", config.address.port, 1, 65535);
  reader.read("graph_file", config.graph_file);
  reader.read("coord_file", config.coord_file);
  const double longest_wait = 1e8;  // seconds, about three years: milliseconds still fit an int64
  reader.read_amount("timeout", config.patience.message, "seconds", longest_wait);
  reader.read_amount("connect_timeout", config.patience.connect, "seconds", longest_wait);
  reader.read_amount("idle_timeout", config.patience.idle, "seconds", longest_wait);
  reader.read_amount("reconnect", config.reconnect, "seconds", longest_wait);
  reader.read_amount("skin", config.skin, "Angstrom", 100.0);
  read_pbc(reader, config.pbc);
  reader.read("check_names", config.check_names);
  reader.read("n_threads", config.n_threads, 0, 4096);
  reader.read("gpu_rank", config.gpu_rank, -1, 4096);
  reader.read("path", config.path, {"auto", "fused", "cuda", "script"});
  reader.read("precision", config.precision, {"float64", "mixed"});
  reader.read("fparam", config.fparam);
  reader.read("aparam", config.aparam);
  check_address(reader, config.address);
  read_atom_type(reader, config.atom_type);
  return config;
}

DriverConfig read_config(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  if (stream) {
    text << stream.rdbuf();
  }
  if (!stream || stream.bad() || (text.fail() && text.str().empty() && stream.peek() != EOF)) {
    throw DriverError(ExitCode::kConfig, "cannot read " + path + "; give the path of the JSON file of dp_ipi");
  }
  return parse_config(text.str(), path);
}

}  // namespace deepmd::ipi
