// libdeepmd_emulated.so: the engine of engine.hpp in the host's memory, for tests of all that a GPU does not have to prove.
#include "device/engine.hpp"
#include "device/host_backend.hpp"

namespace deepmd::device {
namespace {

struct Emulated {
  static constexpr bool kIsEmulated = true;
  struct Backend : HostBackend {
    using HostBackend::HostBackend;
    const char* product_library() const { return splits() ? "emulated library" : "own products"; }
  };

  static int count_devices() { return 1; }
  static std::string describe_device(int) { return "GPU emulated on the host"; }
  static std::int64_t free_bytes(int) { return std::int64_t{1} << 32; }
  // Split products are a matter of the library, which is emulated where they are asked for. DEEPMD_EMULATED_FAILURE: after so
  // many launches the device is lost, for tests of what happens then.
  static std::unique_ptr<Backend> make_backend(int, ProductKind products) {
    const char* failure = std::getenv("DEEPMD_EMULATED_FAILURE");
    HostBackendOptions options;
    options.has_library = products != ProductKind::plain;
    if (failure && *failure) options.fails_after = std::atoll(failure);
    return std::make_unique<Backend>(options);
  }
  static void enter(Backend&) {}
};

}  // namespace
}  // namespace deepmd::device

extern "C" const deepmd::device::Border* deepmd_device_border(void) {
  return deepmd::device::BorderOf<deepmd::device::Emulated>::border();
}
