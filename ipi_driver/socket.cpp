#include "socket.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "driver_error.hpp"

namespace deepmd::ipi {

namespace {

using Clock = std::chrono::steady_clock;

#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;  // a closed peer is an error code here, not a SIGPIPE
#else
constexpr int kSendFlags = 0;
#endif

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// Waits until the descriptor is ready; false if `seconds` went by (0: no limit).
bool wait_ready(int descriptor, short events, double seconds) {
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (true) {
    int milliseconds = -1;
    if (seconds > 0.0) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count() + 1;
      milliseconds = static_cast<int>(std::clamp<long long>(left, 0, 3600000));
    }
    pollfd entry{descriptor, events, 0};
    const int ready = ::poll(&entry, 1, milliseconds);
    if (ready > 0) {
      return true;
    }
    if (ready < 0 && errno != EINTR) {
      throw DriverError(ExitCode::kInternal, std::string("poll failed: ") + std::strerror(errno));
    }
    if (seconds > 0.0 && Clock::now() >= end) {
      return false;
    }
  }
}

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g s", seconds);
  return text;
}

// Tries to connect one socket; returns 0 or the errno.
int try_connect(int descriptor, const sockaddr* address, socklen_t length, double seconds) {
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL, 0) | O_NONBLOCK);
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
#ifdef SO_NOSIGPIPE
  const int on = 1;
  ::setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
  if (::connect(descriptor, address, length) == 0) {
    return 0;
  }
  if (errno != EINPROGRESS && errno != EINTR) {
    return errno;
  }
  if (!wait_ready(descriptor, POLLOUT, seconds)) {
    return ETIMEDOUT;
  }
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

// One attempt; returns the descriptor, or -1 with `error` set (errno).
int attempt_unix(const Address& address, double seconds, int& error) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string path = address.unix_path();
  if (path.size() >= sizeof name.sun_path) {
    error = ENAMETOOLONG;
    return -1;
  }
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  Descriptor descriptor(::socket(AF_UNIX, SOCK_STREAM, 0));
  error = descriptor.get() < 0
              ? errno
              : try_connect(descriptor.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name, seconds);
  return error == 0 ? descriptor.release() : -1;
}

int attempt_inet(const Address& address, double seconds, int& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (status == EAI_AGAIN) {
    error = EAGAIN;
    return -1;
  }
  if (status != 0) {
    throw DriverError(ExitCode::kConnect, "cannot resolve host '" + address.host + "': " + ::gai_strerror(status) +
                                              "; give the name of the machine that runs i-PI");
  }
  int result = -1;
  for (const addrinfo* entry = found; entry != nullptr && result < 0; entry = entry->ai_next) {
    Descriptor descriptor(::socket(entry->ai_family, entry->ai_socktype, entry->ai_protocol));
    error = descriptor.get() < 0 ? errno : try_connect(descriptor.get(), entry->ai_addr, entry->ai_addrlen, seconds);
    if (error == 0) {
      const int on = 1;
      ::setsockopt(descriptor.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      ::setsockopt(descriptor.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
      result = descriptor.release();
    }
  }
  ::freeaddrinfo(found);
  return result;
}

bool worth_another_try(int error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
    case ECONNRESET:
    case ETIMEDOUT:
    case EAGAIN:
    case EINTR:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

[[noreturn]] void fail_connect(const Address& address, int error, double waited) {
  throw DriverError(ExitCode::kConnect, "cannot connect to i-PI at " + address.text() + ": " + std::strerror(error) +
                                            " (tried for " + seconds_text(waited) +
                                            "); start i-PI first, compare use_unix, host and port with its ffsocket");
}

[[noreturn]] void fail_lost(const std::string& how, const char* what) {
  throw DriverError(ExitCode::kDisconnected,
                    how + " (" + what + "); look into i-PI's log for the reason");
}

}  // namespace

Socket Socket::connect(const Address& address, const Patience& patience) {
  const auto start = Clock::now();
  auto pause = std::chrono::milliseconds(20);
  bool told = false;
  while (true) {
    const std::chrono::duration<double> waited = Clock::now() - start;
    const double left = patience.connect > 0.0 ? std::max(patience.connect - waited.count(), 0.05) : 0.0;
    int error = ECONNREFUSED;
    const int descriptor =
        address.use_unix ? attempt_unix(address, left, error) : attempt_inet(address, left, error);
    if (descriptor >= 0) {
      return Socket(descriptor, patience);
    }
    const double spent = std::chrono::duration<double>(Clock::now() - start).count();
    if (!worth_another_try(error) || (patience.connect > 0.0 && spent >= patience.connect)) {
      fail_connect(address, error, spent);
    }
    if (!told) {
      std::fprintf(stderr, "dp_ipi: waiting for i-PI at %s (%s)\n", address.text().c_str(), std::strerror(error));
      told = true;
    }
    const std::chrono::duration<double> rest(patience.connect > 0.0 ? patience.connect - spent : 1.0);
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(pause, rest));
    pause = std::min(pause * 3 / 2, std::chrono::milliseconds(500));
  }
}

Socket::Socket(Socket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      patience_(other.patience_),
      received_(std::move(other.received_)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)) {}

Socket::~Socket() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void Socket::read_exact(void* data, std::size_t size, const char* what, Wait wait) {
  char* place = static_cast<char*>(data);
  std::size_t done = take_received(place, size);
  while (done < size) {
    const bool is_long = size - done >= received_.size();
    const ssize_t count = is_long ? ::recv(descriptor_, place + done, size - done, 0)
                                  : ::recv(descriptor_, received_.data(), received_.size(), 0);
    if (count > 0 && is_long) {
      done += static_cast<std::size_t>(count);
    } else if (count > 0) {
      begin_ = 0;
      end_ = static_cast<std::size_t>(count);
      done += take_received(place + done, size - done);
    } else if (count == 0) {
      const bool between = wait == Wait::kBetweenMessages && done == 0;
      fail_lost(between ? "the server closed the connection without EXIT"
                        : "the server closed the connection in the middle of a message",
                what);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      wait_for_more({done, size, what, wait == Wait::kBetweenMessages && done == 0});
    } else if (errno != EINTR) {
      fail_lost(std::string("the connection broke: ") + std::strerror(errno), what);
    }
  }
}

std::size_t Socket::take_received(char* place, std::size_t size) {
  const std::size_t count = std::min(size, end_ - begin_);
  std::copy_n(received_.data() + begin_, count, place);
  begin_ += count;
  return count;
}

void Socket::wait_for_more(const Progress& progress) const {
  const double limit = progress.idle ? patience_.idle : patience_.message;
  if (wait_ready(descriptor_, POLLIN, limit)) {
    return;
  }
  throw DriverError(ExitCode::kTimeout,
                    progress.idle
                        ? "no message from the server for " + seconds_text(limit) +
                              "; raise idle_timeout (0 waits for ever) or look into i-PI's log"
                        : "the server sent " + std::to_string(progress.done) + " of " +
                              std::to_string(progress.size) + " bytes (" + progress.what +
                              ") and then nothing for " + seconds_text(limit) + "; raise timeout if the network is slow");
}

void Socket::write_all(const void* data, std::size_t size, const char* what) {
  const char* place = static_cast<const char*>(data);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::send(descriptor_, place + done, size - done, kSendFlags);
    if (count >= 0) {
      done += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_ready(descriptor_, POLLOUT, patience_.message)) {
        throw DriverError(ExitCode::kTimeout, "the server took " + std::to_string(done) + " of " +
                                                  std::to_string(size) + " bytes (" + what + ") and then nothing for " +
                                                  seconds_text(patience_.message) + "; raise timeout if it is busy");
      }
    } else if (errno != EINTR) {
      fail_lost(std::string("the connection broke: ") + std::strerror(errno), what);
    }
  }
}

}  // namespace deepmd::ipi
