#pragma once

#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "deepmd/deepmd.h"

namespace deepmd {

// A failure that the caller can act on. The message is one sentence: what, got, expected, remedy.
class Error : public std::exception {
 public:
  Error(deepmd_status status, std::string message) : status_(status), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  deepmd_status status() const noexcept { return status_; }

 private:
  deepmd_status status_;
  std::string message_;
};

// The parts written one after the other; numbers with six significant digits.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace deepmd
