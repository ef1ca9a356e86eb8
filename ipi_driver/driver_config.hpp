// The JSON file of dp_ipi as a struct; every key is checked before anything else happens.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

namespace deepmd::ipi {

// Seconds; 0 stands for no limit.
struct Patience {
  double connect = 60.0;  // how long to try to reach the server
  double message = 120.0;  // without progress inside a message
  double idle = 0.0;      // between messages: i-PI may be busy with other clients
};

struct Address {
  bool use_unix = false;
  std::string host;
  int port = 0;
  std::string sockets_prefix = "/tmp/ipi_";  // the option -S of i-PI

  std::string unix_path() const { return sockets_prefix + host; }
  std::string text() const;
};

struct DriverConfig {
  bool verbose = false;
  Address address;
  std::string graph_file;
  std::string coord_file;
  std::map<std::string, int> atom_type;

  // Beyond the keys of DeePMD-kit, all optional.
  Patience patience;
  double reconnect = 0.0;             // seconds to look for the server again after it went away; 0: do not
  double skin = 1.0;                  // Angstrom
  std::array<int, 3> pbc = {1, 1, 1};  // flags
  bool check_names = true;            // names in atom_type against the model's type_map
  int n_threads = 0;                  // 0: leave as the framework has it
  int gpu_rank = 0;                   // which GPU if there are any; negative: the CPU
  std::string path;                   // auto, fused, cuda or script; "": as the environment says
  std::string precision;              // float64 or mixed; "": as the environment says
  std::vector<double> fparam;         // [dim_fparam]
  std::vector<double> aparam;         // [dim_aparam], the same for every atom

  std::string echo;  // the JSON as read, for the log

  bool periodic() const { return pbc[0] || pbc[1] || pbc[2]; }
};

// Throws DriverError: ExitCode::kConfig, and kAtoms for what is wrong with atom_type.
DriverConfig read_config(const std::string& path);
DriverConfig parse_config(const std::string& text, const std::string& path);

}  // namespace deepmd::ipi
