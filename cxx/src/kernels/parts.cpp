#include "kernels/parts.hpp"

#include <memory>
#include <mutex>

namespace deepmd {
namespace {

constexpr std::chrono::microseconds kLooking{100};  // no longer: between two kernels torch's own threads need the cores

std::mutex& turns() {
  static std::mutex mutex;
  return mutex;
}

std::unique_ptr<ThreadTeam>& team() {
  static std::unique_ptr<ThreadTeam> own;
  return own;
}

}  // namespace

ThreadTeam* training_team() { return team().get(); }

void set_training_threads(int n) {
  if (n == (team() ? team()->size() : 1)) return;
  Turn turn;
  team().reset(n > 1 ? new ThreadTeam(n, kLooking) : nullptr);
}

Turn::Turn() { turns().lock(); }
Turn::~Turn() { turns().unlock(); }

}  // namespace deepmd
