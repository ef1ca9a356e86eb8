// The whole force call of one model on a backend: what is launched, in which order, on which arrays. The same code runs
// on a GPU and, for the tests, on the host.
#pragma once

#include "core/error.hpp"
#include "device/chunks.hpp"
#include "device/frame_pass.hpp"
#include "device/network_call.hpp"

namespace deepmd::device {

struct CallOptions {
  std::int64_t work_bytes = std::int64_t{1} << 30;  // of a chunk's arrays
  std::int64_t staged_bytes = 40 << 10;             // largest tables that blocks copy to shared memory
  ProductKind products = ProductKind::plain;        // of the fitting net in mixed precision
  int n_sharing = 1;                                // ranks on the device
};

template <class Real, class Backend>
class ForceCall : public PassMember<Backend> {
 public:
  ForceCall(Backend& backend, const ModelImage<Real>& image, const CallOptions& options)
      : backend_(backend), image_(image), options_(options), numbers_(backend), high_(backend), low_(backend), centers_(backend), neighbors_(backend),
        order_(backend), extra_(backend), status_(backend), atom_energy_(backend), own_force_(backend), own_virial_(backend),
        forces_(backend), atom_virial_(backend), totals_(backend), work_(backend), staged_extra_(backend),
        staged_forces_(backend), staged_energy_(backend), staged_virial_(backend), staged_totals_(backend),
        staged_status_(backend) {
    send(numbers_, image_.numbers);
    send(centers_, image_.centers);
    send(neighbors_, image_.neighbors);
    split_weights();
    backend_.wait();
    image_.numbers = {};
    check_limits();
  }

  Backend& backend() override { return backend_; }

  void prepare(DeviceFrame<Backend>& device, const Frame& frame, const Result& result, bool keeps_forces) override {
    frame_ = &device;
    wants_ = {result.forces != nullptr || keeps_forces, result.virial != nullptr, result.atom_virial != nullptr, result.atom_energy != nullptr,
              result.forces != nullptr};
    stage_extra(frame);
    if (!is_planned()) plan(frame);
  }

  void append_key(std::vector<std::int64_t>& words) const override {
    words.insert(words.end(), {wants_.bits(), frame_->bucket(), frame_->layout(), backend_.generation(), serial_, frame_->serial(), address(cut_.vector)});
    for (const Chunk& chunk : plan_.chunks) {
      words.push_back(chunk.begin), words.push_back(chunk.end);
      words.insert(words.end(), chunk.first_row.begin(), chunk.first_row.end());
    }
  }

  void enqueue() override {
    backend_.clear(status_.data(), sizeof(FrameStatus));
    if (image_.dim_fparam + image_.dim_aparam > 0) {
      backend_.upload(extra_.data(), staged_extra_.data(),
                      static_cast<std::int64_t>(plan_.order.size()) * (image_.dim_fparam + image_.dim_aparam) *
                          static_cast<std::int64_t>(sizeof(double)));
    }
    const NetworkCall<Real, Backend> network{backend_, image_, numbers_.data(), cut_, atom_energy_.data(),
                                           high_.data(), low_.data(), image_.n_table_numbers};
    for (const Chunk& chunk : plan_.chunks) {
      backend_.launch(SumNeighbors<Real>{inputs(chunk), cut_.sums}, chunk.n());
      for (int type = 0; type < image_.n_types; ++type) {
        const int row = chunk.first_row[static_cast<std::size_t>(type)], n = chunk.first_row[static_cast<std::size_t>(type) + 1] - row;
        if (n > 0) network.run(type, row, n, order_.data() + chunk.begin + row, extra_.data(), wants_.gradient());
      }
      if (wants_.gradient()) project_neighbors(chunk);
    }
    add_up();
    collect_results();
  }

  FrameStatus finish(const Frame& frame, const Result& result) override {
    hand_over(frame, result);
    return *staged_status_.data();
  }

  const double* forces() const override { return forces_.data(); }
  std::int64_t model_bytes() const { return numbers_.bytes() + high_.bytes() + low_.bytes(); }
  ProductKind products() const { return low_.data() ? ProductKind::split : high_.data() ? ProductKind::tf32 : ProductKind::plain; }
  std::int64_t frame_bytes() const {
    return atom_energy_.bytes() + own_force_.bytes() + own_virial_.bytes() + forces_.bytes() + atom_virial_.bytes() + order_.bytes() +
           extra_.bytes();
  }
  std::int64_t work_bytes() const { return work_.bytes(); }
  int n_chunks() const { return static_cast<int>(plan_.chunks.size()); }
  // The most that work arrays will ever take, whatever the frame (unless one atom alone needs more).
  std::int64_t most_work_bytes() const { return options_.work_bytes; }
  std::int64_t bytes_per_center() const {
    const std::int64_t n_reals = 4 * image_.sums_stride + (has_map() ? 8 : 4) * image_.t_stride + image_.x_stride +
                                 (2 * image_.most_layers + 5) * static_cast<std::int64_t>(image_.h_stride) + 2 * split_width();
    return n_reals * static_cast<std::int64_t>(sizeof(Real));
  }

 private:
  struct Wants {
    bool forces, virial, atom_virial, atom_energy, brings_forces;
    bool gradient() const { return forces || virial || atom_virial; }
    int bits() const { return forces + 2 * virial + 4 * atom_virial + 8 * atom_energy + 16 * brings_forces; }
  };

  static constexpr std::int64_t kEntryBucket = 1 << 14;
  static constexpr std::int64_t kCentersPerCopy = 4;

  // Numbers of a row of a split product's factor.
  std::int64_t split_width() const { return is_split() ? std::max(image_.x_stride, image_.h_stride) : 0; }
  bool is_split() const {
    return sizeof(Real) == sizeof(float) && options_.products != ProductKind::plain && backend_.splits();
  }

  void split_weights() {
    const std::int64_t first = image_.n_table_numbers, n = static_cast<std::int64_t>(image_.numbers.size()) - first;
    if (!is_split() || n == 0) return;
    SplitElements<Real> split;
    split.m = n, split.k = split.lda = 1, split.a = numbers_.data() + first;
    split.high = high_.reserve(n);
    if (options_.products == ProductKind::split) split.low = low_.reserve(n);
    backend_.launch(split, n);
  }

  // Of the kernels whose needs depend on the model, at their largest; the others are what the package was compiled for.
  void check_limits() {
    SumNeighbors<Real> sum;
    sum.in.n_staged = is_stageable() ? image_.n_table_numbers : 0;
    backend_.check_limits(sum, "sum over neighbours");
    ProjectNeighbors<Real> project;
    project.in.n_staged = sum.in.n_staged, project.in.widest_table = image_.widest_table;
    backend_.check_limits(project, "give the gradient of each pair");
    ProductsBack<Real> back;
    for (const CenterShape& center : image_.centers) back.n = std::max(back.n, center.n);
    backend_.check_limits(back, "go back through the products of sums");
    backend_.check_limits(GatherForces(), "gather forces");
    backend_.check_limits(FindNeighbors(), "find neighbours");
    backend_.check_limits(CompareForces(), "compare forces");
  }
  bool is_stageable() const {
    return image_.n_table_numbers * static_cast<std::int64_t>(sizeof(Real)) <= options_.staged_bytes;
  }

  bool has_map() const { return !image_.centers.empty() && image_.centers[0].has_map; }
  std::int64_t bytes_per_entry() const { return (wants_.atom_virial ? 6 : 3) * static_cast<std::int64_t>(sizeof(double)); }

  template <class T>
  void send(Buffer<T, Backend>& to, const std::vector<T>& from) {
    to.reserve(static_cast<std::int64_t>(from.size()));
    backend_.upload(to.data(), from.data(), static_cast<std::int64_t>(from.size() * sizeof(T)));
  }

  // Parameters of frame and atom, normalised as the network wants them.
  void stage_extra(const Frame& frame) {
    const int n_f = image_.dim_fparam, n_a = image_.dim_aparam;
    if (n_f + n_a == 0) return;
    double* to = staged_extra_.reserve(static_cast<std::int64_t>(frame.n_local) * (n_f + n_a));
    extra_.reserve(static_cast<std::int64_t>(frame.n_local) * (n_f + n_a));
    for (std::int64_t i = 0; i < frame.n_local; ++i) {
      for (int c = 0; c < n_f; ++c) *to++ = (frame.fparam[c] - image_.fparam_avg[c]) * image_.fparam_inv_std[c];
      for (int c = 0; c < n_a; ++c) *to++ = (frame.aparam[i * n_a + c] - image_.aparam_avg[c]) * image_.aparam_inv_std[c];
    }
  }

  bool is_planned() const {
    return planned_frame_ == frame_ && planned_version_ == frame_->version() && planned_bucket_ == frame_->bucket() &&
           planned_with_virials_ == wants_.atom_virial;
  }

  // Memory for this frame, and chunks: smaller ones where the device has less than the budget.
  void plan(const Frame& frame) {
    planned_version_ = -1;
    for (;;) {
      try {
        plan_ = plan_chunks(frame.n_local, frame.types, image_.n_types, frame_->host_first(), bytes_per_center(), bytes_per_entry(),
                            options_.work_bytes);
        reserve_results(frame.n_local, frame_->bucket());
        reserve_work();
        break;
      } catch (const Error& e) {
        if (e.status() != DEEPMD_ERROR_MEMORY) throw;
        work_.clear();
        halve(frame.n_local, e);
      }
    }
    send(order_, plan_.order);
    backend_.wait();
    planned_version_ = frame_->version(), planned_frame_ = frame_, planned_bucket_ = frame_->bucket();
    planned_with_virials_ = wants_.atom_virial;
  }

  void halve(std::int64_t n, const Error& e) {
    std::int64_t most = 0;
    for (const Chunk& chunk : plan_.chunks) most = std::max<std::int64_t>(most, chunk.n());
    if (most <= kFewestCenters) {
      throw Error(DEEPMD_ERROR_MEMORY, text("the GPU has too little memory for ", n, " atoms even in chunks of ", most, " (",
                                            e.what(), "); use more GPUs, fewer ranks per GPU, or the path fused"));
    }
    options_.work_bytes = std::max<std::int64_t>(1, std::min(options_.work_bytes, needed_work_) / 2);
  }

  void reserve_results(std::int64_t n, std::int64_t n_all) {
    status_.reserve(1), staged_status_.reserve(1);
    totals_.reserve((AddUp::kMostBlocks + 1) * AddUp::kValues), staged_totals_.reserve(AddUp::kValues);
    atom_energy_.reserve(n), staged_energy_.reserve(n);
    order_.reserve(n);
    own_force_.reserve(3 * n), own_virial_.reserve(9 * n);
    forces_.reserve(3 * n_all), staged_forces_.reserve(3 * n_all);
    if (wants_.atom_virial) atom_virial_.reserve(9 * n_all), staged_virial_.reserve(9 * n_all);
  }

  static std::int64_t address(const void* p) { return static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(p)); }
  static std::int64_t rounded(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

  // One array for all chunks. The gradients come last: their number changes with each list.
  void reserve_work() {
    largest_ = {};
    for (const Chunk& chunk : plan_.chunks) {
      largest_.n = std::max<std::int64_t>(largest_.n, chunk.n());
      largest_.n_entries = std::max(largest_.n_entries, chunk.n_entries);
    }
    largest_.n = rounded(largest_.n, 16);
    if (plan_.chunks.size() == 1) largest_.n_entries = rounded(largest_.n_entries, kEntryBucket);
    needed_work_ = largest_.n * bytes_per_center() + largest_.n_entries * bytes_per_entry() + 64 * kPieces;
    work_.reserve(needed_work_, options_.work_bytes);
    cut_work();
  }

  void cut_work() {
    unsigned char* next = work_.data();
    const auto take = [&](std::int64_t bytes) {
      unsigned char* piece = next;
      next += rounded(bytes, 64);
      return piece;
    };
    const auto reals = [&](std::int64_t width) {
      return reinterpret_cast<Real*>(take(largest_.n * width * static_cast<std::int64_t>(sizeof(Real))));
    };
    cut_ = Work<Real>();
    cut_.sums = reals(4 * image_.sums_stride);
    cut_.t = has_map() ? reals(4 * image_.t_stride) : cut_.sums;
    cut_.g_t = reals(4 * image_.t_stride);
    cut_.x = reals(image_.x_stride);
    for (int l = 0; l < image_.most_layers; ++l) cut_.h.push_back(reals(image_.h_stride)), cut_.slope.push_back(reals(image_.h_stride));
    for (int k = 0; k < 2; ++k) cut_.g[k] = reals(image_.h_stride), cut_.g_pre[k] = reals(image_.h_stride);
    cut_.scratch = reals(image_.h_stride);
    if (is_split()) cut_.a_high = reals(split_width()), cut_.a_low = reals(split_width());
    cut_.gradient = reinterpret_cast<double*>(take(0));
    cut_.vector = wants_.atom_virial ? cut_.gradient + 3 * largest_.n_entries : nullptr;
  }

  PairInputs<Real> inputs(const Chunk& chunk) const {
    PairInputs<Real> in;
    in.frame = frame_->header(), in.positions = frame_->positions(), in.types = frame_->types();
    in.list = frame_->list();
    in.order = order_.data() + chunk.begin, in.n = chunk.n();
    in.centers = centers_.data(), in.neighbors = neighbors_.data(), in.numbers = numbers_.data();
    // a block must have several centres to make up for the copy
    const bool is_staged = is_stageable() && chunk.n() >= kCentersPerCopy * backend_.most_blocks();
    in.n_staged = is_staged ? image_.n_table_numbers : 0;
    in.cutoff = image_.cutoff;
    in.n_types = image_.n_types, in.sums_stride = image_.sums_stride, in.widest_table = image_.widest_table;
    in.status = status_.data();
    return in;
  }

  void project_neighbors(const Chunk& chunk) {
    ProjectNeighbors<Real> project;
    project.in = inputs(chunk);
    project.g = has_map() ? cut_.sums : cut_.g_t;
    project.gradient = cut_.gradient, project.vector = cut_.vector;
    project.begin = chunk.begin;
    project.own_force = own_force_.data(), project.own_virial = own_virial_.data();
    backend_.launch(project, chunk.n());
    if (!wants_.forces && !wants_.atom_virial) return;
    GatherForces gather;
    gather.frame = frame_->header(), gather.first = frame_->list().first, gather.turned = frame_->turned();
    gather.begin = chunk.begin, gather.end = chunk.end;
    gather.is_first = &chunk == &plan_.chunks.front(), gather.is_last = &chunk == &plan_.chunks.back();
    gather.gradient = cut_.gradient, gather.vector = cut_.vector;
    gather.own_force = own_force_.data();
    gather.forces = wants_.forces ? forces_.data() : nullptr;
    gather.atom_virial = wants_.atom_virial ? atom_virial_.data() : nullptr;
    backend_.launch(gather, (frame_->bucket() + kGroups - 1) / kGroups);
  }

  void add_up() {
    const auto n = static_cast<int>(plan_.order.size());
    const int n_blocks = std::max(1, std::min(AddUp::kMostBlocks, n / kThreads));
    AddUp first, second;
    first.n = n, first.energy = atom_energy_.data(), first.virial = wants_.virial ? own_virial_.data() : nullptr;
    first.totals = totals_.data() + AddUp::kValues;
    backend_.launch_exactly(first, n_blocks);
    second.n = n_blocks, second.energy = first.totals, second.virial = first.totals + 1;
    second.energy_stride = second.virial_stride = AddUp::kValues;
    second.totals = totals_.data();
    backend_.launch_exactly(second, 1);
  }

  void collect_results() {
    const auto bytes = [](std::int64_t n) { return n * static_cast<std::int64_t>(sizeof(double)); };
    const auto n = static_cast<std::int64_t>(plan_.order.size());
    backend_.download(staged_status_.data(), status_.data(), sizeof(FrameStatus));
    backend_.download(staged_totals_.data(), totals_.data(), bytes(AddUp::kValues));
    if (wants_.atom_energy) backend_.download(staged_energy_.data(), atom_energy_.data(), bytes(n));
    if (wants_.brings_forces) backend_.download(staged_forces_.data(), forces_.data(), bytes(3 * frame_->bucket()));
    if (wants_.atom_virial) backend_.download(staged_virial_.data(), atom_virial_.data(), bytes(9 * frame_->bucket()));
  }

  void hand_over(const Frame& frame, const Result& result) const {
    const auto n_all = static_cast<std::size_t>(frame.n_all());
    if (result.energy) *result.energy = staged_totals_.data()[0];
    if (result.virial) std::copy_n(staged_totals_.data() + 1, 9, result.virial);
    if (result.atom_energy) std::copy_n(staged_energy_.data(), frame.n_local, result.atom_energy);
    if (result.forces) std::copy_n(staged_forces_.data(), 3 * n_all, result.forces);
    if (result.atom_virial) std::copy_n(staged_virial_.data(), 9 * n_all, result.atom_virial);
  }

  static constexpr int kFewestCenters = 64;  // in a chunk, before memory counts as too little
  static constexpr std::int64_t kPieces = 64;

  Backend& backend_;
  ModelImage<Real> image_;  // without its numbers, which are on the device
  CallOptions options_;
  Buffer<Real, Backend> numbers_;
  Buffer<Real, Backend> high_, low_;  // the weights in parts, where products are split
  Buffer<CenterShape, Backend> centers_;
  Buffer<NeighborShape, Backend> neighbors_;
  Buffer<int, Backend> order_;
  Buffer<double, Backend> extra_;
  Buffer<FrameStatus, Backend> status_;
  Buffer<double, Backend> atom_energy_, own_force_, own_virial_, forces_, atom_virial_, totals_;
  Buffer<unsigned char, Backend> work_;
  Staging<double, Backend> staged_extra_, staged_forces_, staged_energy_, staged_virial_, staged_totals_;
  Staging<FrameStatus, Backend> staged_status_;
  DeviceFrame<Backend>* frame_ = nullptr;
  Wants wants_{};
  ChunkPlan plan_;
  Work<Real> cut_;
  struct {
    std::int64_t n = 0, n_entries = 0;
  } largest_;
  std::int64_t needed_work_ = 0;
  const DeviceFrame<Backend>* planned_frame_ = nullptr;
  const std::int64_t serial_ = next_serial();
  std::int64_t planned_version_ = -1, planned_bucket_ = -1;
  bool planned_with_virials_ = false;
};

}  // namespace deepmd::device
