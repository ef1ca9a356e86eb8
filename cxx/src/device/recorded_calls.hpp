#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <utility>
#include <vector>

namespace deepmd::device {

// What was recorded for each key; of more than `most` the one that was looked for longest ago goes.
template <class Recorded>
class RecordedCalls {
 public:
  using Key = std::vector<std::int64_t>;

  explicit RecordedCalls(std::size_t most) : most_(most) {}

  // The entry of a key; a new one is empty.
  Recorded& find(const Key& key, bool* is_new) {
    const auto found = place_.find(key);
    *is_new = found == place_.end();
    if (!*is_new) {
      latest_.splice(latest_.begin(), latest_, found->second);
      return latest_.front().second;
    }
    if (latest_.size() >= most_) {
      place_.erase(latest_.back().first);
      latest_.pop_back();
    }
    latest_.emplace_front(key, Recorded());
    place_[key] = latest_.begin();
    return latest_.front().second;
  }
  void clear() { place_.clear(), latest_.clear(); }
  std::size_t size() const { return latest_.size(); }

 private:
  using Entry = std::pair<Key, Recorded>;
  std::size_t most_;
  std::list<Entry> latest_;  // the last one looked for comes first
  std::map<Key, typename std::list<Entry>::iterator> place_;
};

}  // namespace deepmd::device
