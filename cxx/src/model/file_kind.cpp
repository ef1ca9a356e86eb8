#include "model/file_kind.hpp"

#include <algorithm>

#include "model/zip_archive.hpp"

namespace deepmd {
namespace {

bool starts_with(std::string_view bytes, std::string_view prefix) { return bytes.substr(0, prefix.size()) == prefix; }

bool is_text(std::string_view bytes) {
  const std::string_view head = bytes.substr(0, 4096);
  return std::all_of(head.begin(), head.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte < 0x7f) || byte == '\n' || byte == '\r' || byte == '\t';
  });
}

// A zip archive; torch writes both checkpoints and TorchScript modules as such.
Refusal describe_zip(std::string_view bytes) {
  const auto archive = ZipArchive::open(bytes);
  if (!archive) {
    return {DEEPMD_ERROR_DAMAGED, "is cut short or damaged: it starts like a model file but its end is missing; copy "
                                  "it again or freeze the model anew"};
  }
  if (archive->record("extra/deepmd/metadata.json")) {
    return {DEEPMD_ERROR_DAMAGED, "is damaged: it holds a model of deepmd-engine but its checksum is missing; copy it "
                                  "again or freeze the model anew"};
  }
  if (archive->has_record_under("code/")) {
    return {DEEPMD_ERROR_FORMAT, "is a TorchScript module that was not written by this program (no deepmd-engine "
                                 "record), or it is damaged; convert a DeePMD-kit model with `dp convert-backend` to "
                                 ".dp there and from .dp to .pth here"};
  }
  if (archive->record("data.pkl")) {
    return {DEEPMD_ERROR_FORMAT, "is a training checkpoint, expected a frozen model; run `dp freeze` on it first"};
  }
  return {DEEPMD_ERROR_FORMAT, "is a zip archive but not a frozen model; expected a file written by `dp freeze`"};
}

}  // namespace

Refusal describe_foreign_file(std::string_view bytes) {
  if (bytes.empty()) return {DEEPMD_ERROR_DAMAGED, "is empty; copy it again or freeze the model anew"};
  if (bytes.size() < 4) return {DEEPMD_ERROR_DAMAGED, "is cut short; copy it again or freeze the model anew"};
  if (starts_with(bytes, "PK\x03\x04")) return describe_zip(bytes);
  if (starts_with(bytes, "\x89HDF\r\n\x1a\n")) {
    return {DEEPMD_ERROR_FORMAT, "is an exchange file in HDF5 format (.dp), expected a frozen model; run "
                                 "`dp convert-backend model.dp graph.pth`"};
  }
  if (starts_with(bytes, "version https://git-lfs")) {
    return {DEEPMD_ERROR_FORMAT, "is a Git LFS pointer, not the model itself; run `git lfs pull`"};
  }
  if (bytes[0] == '\n' && !is_text(bytes)) {  // field 1 of a protocol buffer, the nodes of a TensorFlow graph
    return {DEEPMD_ERROR_FORMAT, "looks like a TensorFlow graph (.pb), expected a frozen model (.pth); convert it with "
                                 "DeePMD-kit's `dp convert-backend` to .dp and with ours from .dp to .pth"};
  }
  if (is_text(bytes)) {
    return {DEEPMD_ERROR_FORMAT, "is a text file, expected a frozen model written by `dp freeze`"};
  }
  return {DEEPMD_ERROR_FORMAT, "is not a frozen model; expected a file written by `dp freeze`"};
}

}  // namespace deepmd
