// Positions, types and list of a frame in a backend's memory. A new list is sent, or found here where the frame has none,
// and turned around; the positions are sent in each call. Models on the same device share one of these.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/error.hpp"
#include "device/buffer.hpp"
#include "device/force_bodies.hpp"
#include "device/pair_search.hpp"
#include "device/serial.hpp"
#include "model/frame.hpp"

namespace deepmd::device {

template <class Backend>
class DeviceFrame {
 public:
  DeviceFrame(Backend& backend, int n_types)
      : backend_(backend), n_types_(n_types), header_(backend), positions_(backend), types_(backend), index_(backend),
        index_shift_(backend), first_(backend), neighbor_(backend), shift_(backend), run_(backend), count_(backend),
        turned_first_(backend), turned_entry_(backend), owner_(backend), image_first_(backend), image_(backend), scanner_(backend), search_(backend), staged_header_(backend), staged_positions_(backend) {}

  // Atoms are handled in numbers that are multiples of this, so that a recorded call serves while ghosts come and go.
  static constexpr std::int64_t kBucket = 1024;

  // Takes the frame: afterwards send() may be enqueued.
  void take(const Frame& frame) {
    const auto n_all = static_cast<std::int64_t>(frame.n_all());
    bucket_ = (n_all + kBucket - 1) / kBucket * kBucket;
    positions_.reserve(3 * bucket_);
    header_.reserve(1);
    FrameHeader* header = staged_header_.reserve(1);
    *header = FrameHeader();
    if (frame.cell) std::copy_n(frame.cell, 9, header->cell);
    header->n_local = frame.n_local, header->n_all = static_cast<int>(n_all);
    std::memcpy(staged_positions_.reserve(3 * bucket_), frame.positions, static_cast<std::size_t>(3 * n_all) * sizeof(double));
    if (!is_known(frame)) renew_list(frame);
    host_first_ = frame.list.has_rows() ? frame.list.first : search_.host_first().data();
    if (!frame.list.owners) {
      n_images_ = 0, images_version_ = -1;
    } else if (images_version_ != version_) {
      find_images(frame);
    }
  }

  // Enqueues what each call needs.
  void send() {
    backend_.upload(header_.data(), staged_header_.data(), sizeof(FrameHeader));
    backend_.upload(positions_.data(), staged_positions_.data(), 3 * bucket_ * static_cast<std::int64_t>(sizeof(double)));
  }

  std::int64_t version() const { return version_; }  // of list and types, of no other frame
  std::int64_t serial() const { return serial_; }    // of the frame
  std::int64_t bucket() const { return bucket_; }    // at least n_all
  // What a recorded call depends on besides.
  std::int64_t layout() const { return has_shift_ + 2 * (n_images_ > 0); }
  // [n_local + 1] where rows begin, while the frame that was taken lives.
  const std::int64_t* host_first() const { return host_first_; }
  const FrameHeader* header() const { return header_.data(); }
  const double* positions() const { return positions_.data(); }
  const int* types() const { return types_.data(); }
  DeviceList list() const { return {first_.data(), neighbor_.data(), has_shift_ ? shift_.data() : nullptr, run_.data()}; }
  TurnedList turned() const { return {turned_first_.data(), turned_entry_.data()}; }
  // Of each local atom the ghosts that are images of it, counted from the first ghost; null if there are none. Known after a
  // frame whose list has owners.
  TurnedList images() const { return n_images_ > 0 ? TurnedList{image_first_.data(), image_.data()} : TurnedList(); }
  std::int64_t bytes() const {
    return positions_.bytes() + types_.bytes() + index_.bytes() + index_shift_.bytes() + first_.bytes() + neighbor_.bytes() +
           shift_.bytes() + run_.bytes() + count_.bytes() + turned_first_.bytes() + turned_entry_.bytes() + owner_.bytes() +
           image_first_.bytes() + image_.bytes() + scanner_.bytes() + search_.bytes();
  }

 private:
  bool is_known(const Frame& frame) const {
    return frame.list.stamp != 0 && frame.list.stamp == stamp_ && n_local_ == frame.n_local && radius_ == frame.list.radius &&
           host_types_.size() == frame.n_all() && (frame.list.shift && frame.cell) == has_shift_ &&
           std::equal(host_types_.begin(), host_types_.end(), frame.types);
  }

  void renew_list(const Frame& frame) {
    stamp_ = 0;  // nothing is known if this is cut short
    const auto n_all = static_cast<std::int64_t>(frame.n_all());
    host_types_.assign(frame.types, frame.types + n_all);
    has_shift_ = frame.list.shift && frame.cell;
    radius_ = frame.list.radius;
    send_array(types_, frame.types, n_all);
    run_.reserve(static_cast<std::int64_t>(frame.n_local) * (n_types_ + 1));
    first_.reserve(frame.n_local + std::int64_t{1});
    const std::int64_t n_entries = frame.list.has_rows() ? send_rows(frame) : find_rows(frame);
    turn_list(n_all, n_entries);
    backend_.wait();  // the caller's arrays have been read
    n_local_ = frame.n_local;
    stamp_ = frame.list.stamp;
    version_ = next_serial();
  }

  std::int64_t send_rows(const Frame& frame) {
    const std::int64_t n = frame.n_local, n_entries = frame.list.first[n];
    send_array(first_, frame.list.first, n + 1);
    send_array(index_, frame.list.index, n_entries);
    if (has_shift_) send_array(index_shift_, frame.list.shift, 3 * n_entries);
    neighbor_.reserve(n_entries);
    if (has_shift_) shift_.reserve(3 * n_entries);
    SortRows sort;
    sort.n = frame.n_local, sort.n_types = n_types_, sort.types = types_.data();
    sort.index = index_.data(), sort.index_shift = has_shift_ ? index_shift_.data() : nullptr;
    sort.list = list();
    backend_.launch(sort, (n + kThreads - 1) / kThreads);
    return n_entries;
  }

  std::int64_t find_rows(const Frame& frame) {
    backend_.upload(positions_.data(), staged_positions_.data(), 3 * bucket_ * static_cast<std::int64_t>(sizeof(double)));
    search_.plan(frame, n_types_);
    search_.count(frame, positions_.data(), types_.data(), list(), first_.data());
    const std::int64_t n_entries = search_.host_first().back();
    try {
      neighbor_.reserve(n_entries);
      search_.fill(frame, positions_.data(), list());
      turned_entry_.reserve(n_entries);
    } catch (const Error& e) {
      if (e.status() != DEEPMD_ERROR_MEMORY) throw;
      throw Error(e.status(), text("the GPU has too little memory for a list of ", n_entries, " pairs of ", frame.n_local,
                                   " atoms (", e.what(), "); check the positions, use a shorter skin, more ranks, or the path fused"));
    }
    return n_entries;
  }

  void turn_list(std::int64_t n_all, std::int64_t n_entries) {
    count_.reserve(n_all);
    turned_first_.reserve(n_all + 1);
    turned_entry_.reserve(n_entries);
    const std::int64_t n_blocks = (n_entries + kThreads - 1) / kThreads;
    backend_.clear(count_.data(), n_all * static_cast<std::int64_t>(sizeof(int)));
    backend_.launch(CountSeen{n_entries, neighbor_.data(), count_.data()}, n_blocks);
    scanner_.scan(n_all, count_.data(), turned_first_.data());
    backend_.launch(FillSeen{n_entries, neighbor_.data(), count_.data(), turned()}, n_blocks);
    backend_.launch(SortSeen{n_all, turned()}, (n_all + kThreads - 1) / kThreads);
  }

  void find_images(const Frame& frame) {
    const std::int64_t n = frame.n_local, n_blocks = (frame.n_ghost + kThreads - 1) / kThreads;
    n_images_ = frame.n_ghost;
    if (n_images_ > 0) {
      send_array(owner_, frame.list.owners + n, n_images_);
      count_.reserve(n), image_first_.reserve(n + 1), image_.reserve(n_images_);
      const TurnedList found{image_first_.data(), image_.data()};
      backend_.clear(count_.data(), n * static_cast<std::int64_t>(sizeof(int)));
      backend_.launch(CountSeen{n_images_, owner_.data(), count_.data()}, n_blocks);
      scanner_.scan(n, count_.data(), image_first_.data());
      backend_.launch(FillSeen{n_images_, owner_.data(), count_.data(), found}, n_blocks);
      backend_.launch(SortSeen{n, found}, (n + kThreads - 1) / kThreads);
      backend_.wait();
    }
    images_version_ = version_;
  }

  template <class T>
  void send_array(Buffer<T, Backend>& to, const T* from, std::int64_t n) {
    to.reserve(n);
    backend_.upload(to.data(), from, n * static_cast<std::int64_t>(sizeof(T)));
  }

  Backend& backend_;
  int n_types_;
  Buffer<FrameHeader, Backend> header_;
  Buffer<double, Backend> positions_;
  Buffer<int, Backend> types_, index_, index_shift_;
  Buffer<std::int64_t, Backend> first_;
  Buffer<int, Backend> neighbor_, shift_, run_, count_;
  Buffer<std::int64_t, Backend> turned_first_, turned_entry_;
  Buffer<int, Backend> owner_;
  Buffer<std::int64_t, Backend> image_first_, image_;
  Scanner<Backend> scanner_;
  PairSearch<Backend> search_;
  Staging<FrameHeader, Backend> staged_header_;
  Staging<double, Backend> staged_positions_;
  std::vector<int> host_types_;  // [n_all]
  const std::int64_t* host_first_ = nullptr;
  std::uint64_t stamp_ = 0;
  const std::int64_t serial_ = next_serial();
  std::int64_t version_ = 0, bucket_ = 0;
  int n_local_ = -1;
  std::int64_t images_version_ = -1, n_images_ = 0;
  double radius_ = 0;
  bool has_shift_ = false;
};

}  // namespace deepmd::device
