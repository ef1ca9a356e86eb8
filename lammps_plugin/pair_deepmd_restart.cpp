// pair_style deepmd in restart files: the words of pair_style and the names of pair_coeff.
#include <cstdio>

#include "atom.h"
#include "pair_deepmd.h"
#include "update.h"

namespace deepmd {
namespace {

void write_string(FILE* file, const std::string& text) {
  const int size = static_cast<int>(text.size());
  std::fwrite(&size, sizeof(int), 1, file);
  std::fwrite(text.data(), 1, text.size(), file);
}

void write_strings(FILE* file, const std::vector<std::string>& texts) {
  const int count = static_cast<int>(texts.size());
  std::fwrite(&count, sizeof(int), 1, file);
  for (const auto& text : texts) write_string(file, text);
}

/// Reads on the first rank and broadcasts; every rank gets the same value.
class RestartReader {
 public:
  RestartReader(FILE* file, MPI_Comm world) : file_(file), world_(world) { MPI_Comm_rank(world, &rank_); }

  /// false where the file ends early or holds nonsense.
  bool read_count(int* value) {
    int good = 1;
    if (rank_ == 0) good = std::fread(value, sizeof(int), 1, file_) == 1 && *value >= 0 && *value < kMostWords;
    MPI_Bcast(&good, 1, MPI_INT, 0, world_);
    if (good) MPI_Bcast(value, 1, MPI_INT, 0, world_);
    return good != 0;
  }

  bool read_strings(std::vector<std::string>* texts) {
    int count = 0;
    if (!read_count(&count)) return false;
    texts->assign(count, std::string());
    for (auto& text : *texts) {
      if (!read_string(&text)) return false;
    }
    return true;
  }

 private:
  bool read_string(std::string* text) {
    int size = 0;
    if (!read_count(&size)) return false;
    text->assign(size, ' ');
    if (size == 0) return true;
    int good = 1;
    if (rank_ == 0) good = std::fread(&(*text)[0], 1, size, file_) == static_cast<size_t>(size);
    MPI_Bcast(&good, 1, MPI_INT, 0, world_);
    if (good) MPI_Bcast(&(*text)[0], size, MPI_CHAR, 0, world_);
    return good != 0;
  }

  static const int kMostWords = 1 << 20;
  FILE* file_;
  MPI_Comm world_;
  int rank_ = 0;
};

}  // namespace

void PairDeepMD::write_restart_settings(FILE* file) { write_strings(file, words_); }

void PairDeepMD::write_restart(FILE* file) {
  write_restart_settings(file);
  write_strings(file, names_);
}

void PairDeepMD::read_restart_settings(FILE* file) {
  // The model is opened when it is needed: an input may name another file right after read_restart.
  RestartReader reader(file, world);
  if (!reader.read_strings(&words_)) {
    words_.clear();
    fail("pair_style deepmd: the restart file holds no settings of this style; write pair_style and pair_coeff again");
  }
  close_models();
  restarted_ = true;  // a deviation file is continued, not started again
  restart_step_ = update->ntimestep;
}

void PairDeepMD::read_restart(FILE* file) {
  read_restart_settings(file);
  RestartReader reader(file, world);
  if (!reader.read_strings(&names_) ||
      (!names_.empty() && static_cast<int>(names_.size()) != atom->ntypes)) {
    names_.clear();
    fail("pair_style deepmd: the restart file holds no elements of this style; write pair_style and pair_coeff again");
  }
  allocate();
  mark_types_set();
}

}  // namespace deepmd
