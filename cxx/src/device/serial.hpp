// Numbers that no two objects of a process share, unlike addresses, which come again.
#pragma once

#include <atomic>
#include <cstdint>

namespace deepmd::device {

inline std::int64_t next_serial() {
  static std::atomic<std::int64_t> last{0};
  return ++last;
}

}  // namespace deepmd::device
