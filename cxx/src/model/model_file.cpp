#include "model/model_file.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/error.hpp"
#include "core/sha256.hpp"
#include "model/file_kind.hpp"
#include "model/safetensors.hpp"
#include "model/zip_archive.hpp"

namespace deepmd {
namespace {

constexpr std::string_view kTrailerName = "deepmd-engine-";
constexpr std::string_view kTrailer = "deepmd-engine-1 sha256:";
constexpr std::size_t kDigits = 64;

// Everything is refused whose last bytes are not the trailer with the right digest.
void verify(const std::string& path, std::string_view bytes) {
  const std::size_t size = kTrailer.size() + kDigits;
  const std::string_view end = bytes.size() > size ? bytes.substr(bytes.size() - size) : std::string_view();
  if (end.substr(0, kTrailerName.size()) != kTrailerName) {
    const Refusal refusal = describe_foreign_file(bytes);
    throw Error(refusal.status, path + " " + refusal.sentence);
  }
  if (end.substr(0, kTrailer.size()) != kTrailer) {
    throw Error(DEEPMD_ERROR_VERSION, path + " was written in another version of the file format, or is damaged; use a "
                                             "newer deepmd-engine, or freeze the model anew");
  }
  if (sha256_hex(bytes.data(), bytes.size() - kDigits) != end.substr(kTrailer.size())) {
    throw Error(DEEPMD_ERROR_DAMAGED, path + " is damaged: its content does not match its checksum; copy it again or "
                                             "freeze the model anew");
  }
}

std::string read_all(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    throw Error(DEEPMD_ERROR_FILE, text("the model file ", path, " cannot be read: ", std::strerror(errno),
                                        "; check the path"));
  }
  if (S_ISDIR(info.st_mode)) {
    throw Error(DEEPMD_ERROR_FILE, path + " is a folder, expected a model file written by `dp freeze`");
  }
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  if (file && info.st_size > 0) {
    bytes.resize(static_cast<std::size_t>(info.st_size));
    file.read(&bytes[0], static_cast<std::streamsize>(bytes.size()));
  }
  if (!file) {
    throw Error(DEEPMD_ERROR_FILE, text("the model file ", path, " cannot be read: ", std::strerror(errno),
                                        "; check its permissions"));
  }
  return bytes;
}

SelftestFrame read_frame(const SafeTensors& arrays, const std::string& prefix, const Metadata& metadata) {
  SelftestFrame frame;
  frame.positions = arrays.doubles(prefix + "positions");
  for (std::int64_t type : arrays.integers(prefix + "types")) frame.types.push_back(static_cast<int>(type));
  if (arrays.has(prefix + "cell")) frame.cell = arrays.doubles(prefix + "cell");
  if (arrays.has(prefix + "fparam")) frame.fparam = arrays.doubles(prefix + "fparam");
  if (arrays.has(prefix + "aparam")) frame.aparam = arrays.doubles(prefix + "aparam");
  const bool is_energy = metadata.has_energy();
  if (metadata.has_spins()) {
    frame.spins = arrays.doubles(prefix + "spin");
    frame.spin_forces = arrays.doubles(prefix + "force_mag");
  }
  std::vector<double> energy(1, 0.0);
  if (is_energy || metadata.output.has_derivatives) {
    frame.forces = arrays.doubles(prefix + "forces");
    frame.virial = arrays.doubles(prefix + "virial");
  }
  if (is_energy) {
    frame.atom_energy = arrays.doubles(prefix + "atom_energy");
    energy = arrays.doubles(prefix + "energy");
  } else {
    frame.atom_output = arrays.doubles(prefix + "atom_" + metadata.kind);
  }

  const std::size_t n = frame.types.size();
  const auto width = static_cast<std::size_t>(is_energy ? 0 : metadata.output.width);
  const std::size_t n_parts = is_energy ? 1 : metadata.output.has_derivatives ? width : 0;
  const auto dim_fparam = static_cast<std::size_t>(metadata.dim_fparam);
  const auto dim_aparam = static_cast<std::size_t>(metadata.dim_aparam);
  if (frame.positions.size() != 3 * n || frame.forces.size() != 3 * n * n_parts || frame.virial.size() != 9 * n_parts ||
      frame.atom_energy.size() != (is_energy ? n : 0) || frame.atom_output.size() != n * width || energy.size() != 1 ||
      (metadata.has_spins() && (frame.spins.size() != 3 * n || frame.spin_forces.size() != 3 * n)) || (!frame.cell.empty() && frame.cell.size() != 9) ||
      (!frame.fparam.empty() && frame.fparam.size() != dim_fparam) ||
      (!frame.aparam.empty() && frame.aparam.size() != n * dim_aparam)) {
    throw Error(DEEPMD_ERROR_FORMAT, "has self-test frames whose arrays do not fit together; freeze the model anew");
  }
  frame.energy = energy[0];
  return frame;
}

}  // namespace

ModelFile ModelFile::read(const std::string& path) { return ModelFile(path, read_all(path)); }

ModelFile::ModelFile(std::string path, std::string bytes) : path_(std::move(path)), bytes_(std::move(bytes)) {
  verify(path_, bytes_);
  try {
    metadata_ = parse_metadata(required_record("deepmd/metadata.json"));
  } catch (const Error& e) {
    throw Error(e.status(), path_ + " " + e.what());
  }
}

ModelFile part_of(ModelFile file, const char* part) {
  const std::string wish = part ? part : "", modifier = file.metadata().modifier;
  if (!wish.empty() && wish != "short_range" && wish != "modifier") {
    throw Error(DEEPMD_ERROR_ARGUMENT, text("part is '", wish, "', expected short_range or modifier"));
  }
  if (modifier.empty() || wish == "short_range") return file;
  if (wish.empty()) {
    throw Error(DEEPMD_ERROR_UNSUPPORTED,
                text(file.path(), " has the modifier '", modifier, "', whose energies are added in Python, or in LAMMPS by "
                     "kspace_style and fix dplr, but not here; without them its energies are of short range only"));
  }
  const auto inside = file.record("deepmd/modifier.pth");
  if (!inside) throw Error(DEEPMD_ERROR_FORMAT, file.path() + " lacks the model of its modifier; freeze the model anew");
  return ModelFile(file.path() + " (modifier)", std::string(*inside));
}

std::optional<std::string_view> ModelFile::record(const std::string& name) const {
  const auto archive = ZipArchive::open(bytes_);
  return archive ? archive->record("extra/" + name) : std::nullopt;
}

std::string_view ModelFile::required_record(const std::string& name) const {
  const auto found = record(name);
  if (!found) throw Error(DEEPMD_ERROR_FORMAT, "lacks the record extra/" + name + "; freeze the model anew");
  return *found;
}

std::vector<SelftestFrame> ModelFile::selftest_frames() const {
  try {
    const SafeTensors arrays(required_record("deepmd/selftest.safetensors"));
    std::vector<SelftestFrame> frames;
    while (arrays.has(std::to_string(frames.size()) + ".positions")) {
      frames.push_back(read_frame(arrays, std::to_string(frames.size()) + ".", metadata_));
    }
    if (frames.empty()) throw Error(DEEPMD_ERROR_FORMAT, "holds no self-test frames; freeze the model anew");
    return frames;
  } catch (const Error& e) {
    throw Error(e.status(), path_ + " " + e.what());
  }
}

}  // namespace deepmd
