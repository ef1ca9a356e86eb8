// A file of NumPy's own format (.npy, version 1.0) with rows of doubles that can grow and shrink.
#ifndef DEEPMD_LAMMPS_NPY_ROWS_HPP
#define DEEPMD_LAMMPS_NPY_ROWS_HPP

#include <cstddef>
#include <string>
#include <vector>

namespace deepmd {

class NpyRows {
 public:
  /// width: numbers in a row, 0 for an array of one dimension.
  NpyRows(std::string path, std::size_t width) : path_(std::move(path)), width_(width) {}

  /// Number of rows; 0 if there is no file, -1 if it is none of ours.
  long count() const;
  /// The numbers of one-dimensional arrays.
  std::vector<double> read() const;
  /// Makes `values` the last row, behind `row` others; false with errno set on failure.
  bool write(std::size_t row, const double* values) const;
  /// Keeps the first n rows; false with errno set on failure.
  bool cut(std::size_t n) const;

 private:
  std::size_t numbers_in_row() const { return width_ == 0 ? 1 : width_; }
  std::string header(std::size_t n_rows) const;

  std::string path_;
  std::size_t width_;
};

}  // namespace deepmd

#endif
