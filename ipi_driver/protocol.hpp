// The client side of i-PI's protocol as a state machine over an abstract stream; i-PI's units and its order of matrix
// elements end here.
//
// On the wire (native byte order): headers of 12 characters padded with blanks, int32 and float64, atomic units.
//   STATUS    -> NEEDINIT until INIT came, HAVEDATA if a result waits, else READY
//   INIT      <- int32 replica, int32 length, text; "batch_size: N" in the text switches to batches
//   POSDATA   <- cell [3][3] and its inverse (vectors as columns), int32 n_atoms, positions [n_atoms][3]
//             <- in a batch: int32 n_atoms, N x (cell, inverse), positions [N][n_atoms][3]
//   GETFORCE  -> FORCEREADY, energy [1 or N], int32 n_atoms, forces [1 or N][n_atoms][3], virial [1 or N][3][3],
//                1 or N x (int32 length, text)
//   EXIT      the end
// A server that sends POSDATA without asking for the status first is served too.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "stream.hpp"

namespace deepmd::ipi {

// Core units: Angstrom; the cell vectors are rows.
struct Frame {
  std::array<double, 9> cell{};   // [3][3]
  std::vector<double> positions;  // [n_atoms][3]
};

// Core units: eV, eV/Angstrom; virial[a][b] = sum_k force_k[a] position_k[b].
struct Evaluation {
  double energy = 0.0;
  std::vector<double> forces;      // [n_atoms][3]
  std::array<double, 9> virial{};  // [3][3]
};

class Evaluator {
 public:
  virtual ~Evaluator() = default;
  virtual int n_atoms() const = 0;
  // Results in the order of the frames. Throws DriverError.
  virtual void evaluate(const std::vector<Frame>& frames, std::vector<Evaluation>& results) = 0;
};

class Protocol {
 public:
  // `log` receives one line a header, NULL: no log.
  Protocol(Stream& stream, Evaluator& evaluator, std::FILE* log) : stream_(stream), evaluator_(evaluator), log_(log) {}

  // Serves messages until EXIT.
  void serve();

 private:
  void answer_status();
  void read_init();
  void read_posdata();
  void read_batch();
  void send_forces();

  std::int32_t read_count(const char* what);
  void read_atom_count();
  void read_doubles(std::vector<double>& values, std::size_t count, const char* what);
  void take_cell(Frame& frame, const double* wire);
  void take_positions(Frame& frame, const double* wire);
  void check_results() const;
  void send_header(const char* header);

  Stream& stream_;
  Evaluator& evaluator_;
  std::FILE* log_;
  bool initialised_ = false;
  bool have_data_ = false;
  int batch_size_ = 1;
  std::vector<Frame> frames_;        // [batch_size]
  std::vector<Evaluation> results_;  // [batch_size]
  std::vector<double> wire_;         // kept between messages, as are the two above
  std::vector<char> reply_;
};

}  // namespace deepmd::ipi
