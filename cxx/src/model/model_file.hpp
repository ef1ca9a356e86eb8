#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/metadata.hpp"

namespace deepmd {

// A frame stored in the file with the answers of the model that was frozen.
struct SelftestFrame {
  std::vector<double> positions;  // [n_atoms][3]
  std::vector<int> types;         // [n_atoms]
  std::vector<double> cell;       // [3][3], empty for open boundaries
  std::vector<double> fparam;     // [dim_fparam]
  std::vector<double> aparam;     // [n_atoms][dim_aparam]
  double energy = 0;
  std::vector<double> forces;       // [n_atoms][3]
  std::vector<double> virial;       // [3][3]
  std::vector<double> atom_energy;  // [n_atoms]
  std::vector<double> spins;        // [n_atoms][3] and spin_forces of the same shape, empty if the model takes none
  std::vector<double> spin_forces;
  // Models of other kinds: no energy, and forces [width][n_atoms][3] and virial [width][3][3], empty where there are none.
  std::vector<double> atom_output;  // [n_atoms][width]
};

// A frozen model file in memory whose every byte has been checked.
//
// The file is a zip archive (TorchScript) whose comment is "deepmd-engine-1 sha256:" and 64 hexadecimal digits: the
// digest of all bytes before the digits. So damage is found here, before torch parses anything.
class ModelFile {
 public:
  // Throws DEEPMD_ERROR_FILE, _DAMAGED, _FORMAT or _VERSION with a sentence that names the file.
  static ModelFile read(const std::string& path);
  // The same for bytes that the caller has; `path` appears in messages.
  ModelFile(std::string path, std::string bytes);

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return bytes_; }
  const Metadata& metadata() const { return metadata_; }
  std::vector<SelftestFrame> selftest_frames() const;
  // An extra record by its name, such as "deepmd/model.json"; nothing if there is none.
  std::optional<std::string_view> record(const std::string& name) const;

 private:
  std::string_view required_record(const std::string& name) const;

  std::string path_;
  std::string bytes_;
  Metadata metadata_;
};

// The file that a caller means by `part` (null, "short_range" or "modifier", see deepmd_open_options) of a file.
ModelFile part_of(ModelFile file, const char* part);

}  // namespace deepmd
