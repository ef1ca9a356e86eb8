#pragma once

#include <string>
#include <string_view>

#include "deepmd/deepmd.h"

namespace deepmd {

// Why a file without our trailer is refused.
struct Refusal {
  deepmd_status status;
  std::string sentence;  // follows the file's name: "is empty; ..."
};

// Says what `bytes` are, if not a frozen model, and what to do about it.
Refusal describe_foreign_file(std::string_view bytes);

}  // namespace deepmd
