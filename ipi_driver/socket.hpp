// A connection to the i-PI server: unix or internet stream socket. Throws DriverError, never exits.
#pragma once

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
  Socket(int descriptor, const Patience& patience) : descriptor_(descriptor), patience_(patience) {}

  int descriptor_;
  Patience patience_;
};

}  // namespace deepmd::ipi
