#include "protocol.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/units.hpp"
#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

constexpr double kAngstromPerBohr = 1.0 / kIpiBohrPerAngstrom;
constexpr double kHartreePerEv = kIpiHartreePerElectronvolt;
constexpr double kAtomicForcePerEvPerAngstrom = kHartreePerEv * kAngstromPerBohr;

constexpr std::size_t kHeaderSize = 12;
// Bounds for what a server may announce, checked before memory is asked for.
constexpr std::int32_t kLongestInit = 1 << 20;  // characters
constexpr int kLargestBatch = 4096;             // structures

// What DeePMD-kit's client sends in the field for remarks; scripts that read i-PI's extras see no difference.
constexpr char kExtra[] = "nothing";

[[noreturn]] void violate(const std::string& sentence) { throw DriverError(ExitCode::kProtocol, sentence); }

std::string printable(const std::string& text) {
  std::string shown;
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte < 0x7f) {
      shown += character;
    } else {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      shown += code;
    }
  }
  return shown;
}

std::string trimmed(const std::string& text) {
  const std::string blanks(" \t\r\n\0", 5);
  const std::size_t first = text.find_first_not_of(blanks);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// N of the token "batch_size: N" in the comma separated INIT text, 1 without it.
int batch_size_of(const std::string& text) {
  int batch_size = 1;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    const std::string token = text.substr(start, end - start);
    const std::size_t colon = token.find(':');
    if (colon != std::string::npos && trimmed(token.substr(0, colon)) == "batch_size") {
      const std::string number = trimmed(token.substr(colon + 1));
      const bool digits = !number.empty() && number.size() < 9 &&
                          number.find_first_not_of("0123456789") == std::string::npos;
      batch_size = digits ? std::stoi(number) : 0;
      if (batch_size < 1 || batch_size > kLargestBatch) {
        violate("INIT asks for batch_size '" + printable(number.substr(0, 20)) + "', expected 1 to " +
                std::to_string(kLargestBatch) + "; change batch_size in i-PI's ffsocket");
      }
    }
    start = end + 1;
  }
  return batch_size;
}

template <typename T>
void append(std::vector<char>& bytes, const T* values, std::size_t count) {
  const char* first = reinterpret_cast<const char*>(values);
  bytes.insert(bytes.end(), first, first + count * sizeof(T));
}

// With mode="shm" i-PI sends names of shared memory where a cell is expected; said in words instead of as garbage.
void refuse_shared_memory(const double* wire) {
  const std::string bytes(reinterpret_cast<const char*>(wire), 9 * sizeof(double));
  if (bytes.find("ipi_shm_") != std::string::npos) {
    violate("i-PI runs its socket in mode 'shm', which this client does not speak; use mode='unix' in i-PI's ffsocket");
  }
}

}  // namespace

void Protocol::serve() {
  while (true) {
    char header[kHeaderSize];
    stream_.read_exact(header, kHeaderSize, "a header", Wait::kBetweenMessages);
    const std::string name = trimmed(std::string(header, kHeaderSize));
    if (log_ != nullptr) {
      std::fprintf(log_, "# get header %s\n", printable(name).c_str());
    }
    if (name == "STATUS") {
      answer_status();
    } else if (name == "INIT") {
      read_init();
    } else if (name == "POSDATA") {
      batch_size_ > 1 ? read_batch() : read_posdata();
    } else if (name == "GETFORCE") {
      send_forces();
    } else if (name == "EXIT") {
      return;
    } else {
      violate("unexpected header '" + printable(std::string(header, kHeaderSize)) +
              "', expected STATUS, INIT, POSDATA, GETFORCE or EXIT; is the server at this address i-PI?");
    }
  }
}

void Protocol::answer_status() { send_header(!initialised_ ? "NEEDINIT" : have_data_ ? "HAVEDATA" : "READY"); }

void Protocol::read_init() {
  const std::int32_t replica = read_count("the replica of INIT");
  const std::int32_t length = read_count("the length of INIT");
  if (length < 0 || length > kLongestInit) {
    violate("INIT announces a text of " + std::to_string(length) + " characters, expected 0 to " +
            std::to_string(kLongestInit));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  if (length > 0) {
    stream_.read_exact(text.data(), text.size(), "the text of INIT");
  }
  batch_size_ = batch_size_of(text);
  initialised_ = true;
  have_data_ = false;
  if (log_ != nullptr) {
    std::fprintf(log_, "# init replica %d, batch size %d: %s\n", static_cast<int>(replica), batch_size_,
                 printable(text.substr(0, 200)).c_str());
  }
}

void Protocol::read_posdata() {
  have_data_ = false;
  frames_.resize(1);
  read_doubles(wire_, 9, "the cell of POSDATA");
  refuse_shared_memory(wire_.data());
  take_cell(frames_[0], wire_.data());
  read_doubles(wire_, 9, "the inverse cell of POSDATA");
  read_atom_count();
  read_doubles(wire_, 3 * static_cast<std::size_t>(evaluator_.n_atoms()), "the positions of POSDATA");
  take_positions(frames_[0], wire_.data());
  evaluator_.evaluate(frames_, results_);
  check_results();
  have_data_ = true;
}

void Protocol::read_batch() {
  have_data_ = false;
  frames_.resize(static_cast<std::size_t>(batch_size_));
  read_atom_count();
  for (Frame& frame : frames_) {
    read_doubles(wire_, 9, "a cell of the batch");
    refuse_shared_memory(wire_.data());
    take_cell(frame, wire_.data());
    read_doubles(wire_, 9, "an inverse cell of the batch");
  }
  for (Frame& frame : frames_) {
    read_doubles(wire_, 3 * static_cast<std::size_t>(evaluator_.n_atoms()), "the positions of the batch");
    take_positions(frame, wire_.data());
  }
  evaluator_.evaluate(frames_, results_);
  check_results();
  have_data_ = true;
}

void Protocol::send_forces() {
  if (!have_data_) {
    violate("GETFORCE came before POSDATA, so there is nothing to send");
  }
  const auto n_atoms = static_cast<std::int32_t>(evaluator_.n_atoms());
  reply_.clear();
  append(reply_, "FORCEREADY  ", kHeaderSize);
  for (const Evaluation& result : results_) {
    const double energy = result.energy * kHartreePerEv;
    append(reply_, &energy, 1);
  }
  append(reply_, &n_atoms, 1);
  for (const Evaluation& result : results_) {
    wire_.resize(result.forces.size());
    for (std::size_t k = 0; k < wire_.size(); ++k) {
      wire_[k] = result.forces[k] * kAtomicForcePerEvPerAngstrom;
    }
    append(reply_, wire_.data(), wire_.size());
  }
  for (const Evaluation& result : results_) {
    double transposed[9];
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) {
        transposed[3 * b + a] = result.virial[static_cast<std::size_t>(3 * a + b)] * kHartreePerEv;
      }
    }
    append(reply_, transposed, 9);
  }
  const auto extra_length = static_cast<std::int32_t>(sizeof kExtra - 1);
  for (std::size_t k = 0; k < results_.size(); ++k) {
    append(reply_, &extra_length, 1);
    append(reply_, kExtra, sizeof kExtra - 1);
  }
  stream_.write_all(reply_.data(), reply_.size(), "the forces");
  have_data_ = false;
}

std::int32_t Protocol::read_count(const char* what) {
  std::int32_t count = 0;
  stream_.read_exact(&count, sizeof count, what);
  return count;
}

void Protocol::read_atom_count() {
  const std::int32_t count = read_count("the number of atoms");
  if (count != evaluator_.n_atoms()) {
    throw DriverError(ExitCode::kAtomCount, "the server sends " + std::to_string(count) + " atoms, coord_file has " +
                                                std::to_string(evaluator_.n_atoms()) +
                                                "; make coord_file of the structure that i-PI starts from");
  }
}

void Protocol::read_doubles(std::vector<double>& values, std::size_t count, const char* what) {
  values.resize(count);
  stream_.read_exact(values.data(), count * sizeof(double), what);
}

void Protocol::take_cell(Frame& frame, const double* wire) {
  for (std::size_t a = 0; a < 3; ++a) {
    for (std::size_t b = 0; b < 3; ++b) {
      frame.cell[3 * a + b] = wire[3 * b + a] * kAngstromPerBohr;
    }
  }
}

void Protocol::take_positions(Frame& frame, const double* wire) {
  frame.positions.resize(3 * static_cast<std::size_t>(evaluator_.n_atoms()));
  for (std::size_t k = 0; k < frame.positions.size(); ++k) {
    frame.positions[k] = wire[k] * kAngstromPerBohr;
  }
}

// The last gate before the wire: whatever the evaluator did, no other number of results and nothing that is not finite.
void Protocol::check_results() const {
  const auto refuse = [](const std::string& sentence) { throw DriverError(ExitCode::kEvaluation, sentence); };
  if (results_.size() != frames_.size()) {
    refuse("the model gave " + std::to_string(results_.size()) + " results for " + std::to_string(frames_.size()) +
           " structures");
  }
  for (const Evaluation& result : results_) {
    bool finite = std::isfinite(result.energy);
    for (const double value : result.virial) {
      finite = finite && std::isfinite(value);
    }
    if (!finite) {
      refuse("the model's energy or virial is not finite; it is not sent");
    }
    if (result.forces.size() != frames_[0].positions.size()) {
      refuse("the model gave forces for " + std::to_string(result.forces.size() / 3) + " atoms");
    }
    for (std::size_t k = 0; k < result.forces.size(); ++k) {
      if (!std::isfinite(result.forces[k])) {
        refuse("the model's force on atom " + std::to_string(k / 3 + 1) + " is not finite; it is not sent");
      }
    }
    if (log_ != nullptr) {
      std::fprintf(log_, "# energy of sys. : %.10e\n", result.energy);
    }
  }
}

void Protocol::send_header(const char* header) {
  char padded[kHeaderSize];
  std::memset(padded, ' ', kHeaderSize);
  std::memcpy(padded, header, std::strlen(header));
  stream_.write_all(padded, kHeaderSize, "the answer to STATUS");
}

}  // namespace deepmd::ipi
