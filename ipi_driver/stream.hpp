// The byte stream that the protocol runs over: a socket, or a piece of memory in the tests.
#pragma once

#include <cstddef>

namespace deepmd::ipi {

enum class Wait {
  kInsideMessage,   // more bytes are due
  kBetweenMessages  // the server may take its time
};

class Stream {
 public:
  virtual ~Stream() = default;
  // Fills `data` with exactly `size` bytes. `what` names them in the message of the DriverError that is thrown if the
  // peer closes or stalls.
  virtual void read_exact(void* data, std::size_t size, const char* what, Wait wait = Wait::kInsideMessage) = 0;
  virtual void write_all(const void* data, std::size_t size, const char* what) = 0;
};

}  // namespace deepmd::ipi
