// A connection to the i-PI server: unix or internet stream socket. Throws DriverError, never exits.
#pragma once

#include <cstddef>
#include <vector>

#include "driver_config.hpp"
#include "stream.hpp"

namespace deepmd::ipi {

class Socket : public Stream {
 public:
  // Tries again while the server is not there yet, for at most patience.connect seconds.
  static Socket connect(const Address& address, const Patience& patience);

  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&&) = delete;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() override;

  void read_exact(void* data, std::size_t size, const char* what, Wait wait = Wait::kInsideMessage) override;
  void write_all(const void* data, std::size_t size, const char* what) override;

 private:
  // How far a read has come, for messages.
  struct Progress {
    std::size_t done, size;
    const char* what;
    bool idle;  // nothing is due yet
  };

  Socket(int descriptor, const Patience& patience)
      : descriptor_(descriptor), patience_(patience), received_(1 << 16) {}

  // Copies what has been received already, at most `size` bytes; returns how many.
  std::size_t take_received(char* place, std::size_t size);
  void wait_for_more(const Progress& progress) const;

  int descriptor_;
  Patience patience_;
  // All that has arrived is taken out of the kernel at once, the GETFORCE behind a POSDATA included. A client that dies
  // while it computes then leaves an empty queue, and the server sees an orderly end. With unread bytes it sees a reset,
  // which i-PI 3.3 does not survive.
  std::vector<char> received_;
  std::size_t begin_ = 0, end_ = 0;  // what of it has not been read
};

}  // namespace deepmd::ipi
