// libdeepmd_script.so: the only unit that includes torch; narrow headers keep its compile time bearable.

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstdlib>
#include <istream>
#include <limits>
#include <sstream>
#include <streambuf>

#include "core/error.hpp"
#include "model/pair_blocks.hpp"
#include "model/script_border.hpp"

namespace deepmd {
namespace {

// Pairs per call of the module. On the CPU a [pairs x 100] tensor of doubles should not leave the cache (7 MB), and
// fewer pairs only add overhead; a GPU wants to be filled.
constexpr std::int64_t kPairsPerCallCpu = 8192, kPairsPerCallGpu = 131072;

// A read-only stream over bytes that somebody else holds.
class BytesBuffer : public std::streambuf {
 public:
  explicit BytesBuffer(std::string_view bytes) {
    char* begin = const_cast<char*>(bytes.data());  // a streambuf wants char*, and a get area is never written to
    setg(begin, begin, begin + bytes.size());
  }

 protected:
  pos_type seekoff(off_type offset, std::ios_base::seekdir from, std::ios_base::openmode) override {
    char* base = from == std::ios_base::beg ? eback() : from == std::ios_base::cur ? gptr() : egptr();
    if (offset < eback() - base || offset > egptr() - base) return pos_type(off_type(-1));
    setg(eback(), base + offset, egptr());
    return pos_type(gptr() - eback());
  }
  pos_type seekpos(pos_type position, std::ios_base::openmode mode) override {
    return seekoff(off_type(position), std::ios_base::beg, mode);
  }
};

// TorchScript errors are a trace whose last line tells what happened; others tell it in the first line.
std::string essence(const std::string& message) {
  std::istringstream lines(message);
  std::string first, last;
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" ~\t") == std::string::npos) continue;
    if (first.empty()) first = line;
    last = line;
  }
  return message.find("TorchScript") == std::string::npos ? first : last;
}

// Runs `work` and turns torch's exceptions into ours.
template <class Work>
auto with_torch_errors(const std::string& doing, Work&& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    throw Error(DEEPMD_ERROR_MEMORY, doing + " failed: the device is out of memory; use a smaller system per device");
  } catch (const c10::Error& e) {
    throw Error(DEEPMD_ERROR_INTERNAL, doing + " failed in torch: " + essence(e.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& e) {
    throw Error(DEEPMD_ERROR_INTERNAL, doing + " failed in torch: " + essence(e.what()));
  }
}

// Threads asked for by the caller, else by the variable that DeePMD-kit's users know, else 0: as torch has it.
int choose_threads(int asked) {
  const char* variable = "DP_INTRA_OP_PARALLELISM_THREADS";
  const char* given = std::getenv(variable);
  if (asked > 0 || !given || !*given) return asked;
  char* end = nullptr;
  const long n = std::strtol(given, &end, 10);
  if (*end == '\0' && n >= 0 && n <= 4096) return static_cast<int>(n);
  throw Error(DEEPMD_ERROR_ARGUMENT, text("the environment variable ", variable, " is '", given,
                                          "', expected a number of threads, or 0 for torch's own choice"));
}

at::Device choose_device(int gpu_rank) {
  const int n_devices = gpu_rank < 0 ? 0 : static_cast<int>(at::getNumGPUs());
  if (n_devices == 0) return at::kCPU;
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu_rank % n_devices));
}

class ScriptPotential : public Potential {
 public:
  ScriptPotential(const ModelFile& file, const DeviceChoice& choice)
      : metadata_(file.metadata()), device_(choose_device(choice.gpu_rank)), n_threads_(choose_threads(choice.n_threads)),
        blocks_(metadata_.rcut, pairs_per_call(metadata_, device_)) {
    BytesBuffer buffer(file.bytes());
    std::istream stream(&buffer);
    module_ = torch::jit::load(stream, device_);
    module_.eval();
    for (const at::Tensor& weight : module_.parameters()) weight.set_requires_grad(false);
    description_ = text("TorchScript, ", device_.str(), ", ",
                        n_threads_ > 0 ? text(n_threads_, " threads") : std::string("threads as torch has them"));
  }

  const char* name() const override { return "script"; }
  const char* describe() const { return description_.c_str(); }

  void evaluate(const Frame& frame, const Result& result) override {
    clear_result(frame, result);
    for_each_block(frame, true, [&] { evaluate_block(frame, result); });
  }

  void evaluate_output(const Frame& frame, const OutputResult& result) override {
    const auto width = static_cast<std::size_t>(metadata_.output.width), n_parts = result.weights ? 1 : width;
    if (result.output) std::fill_n(result.output, width, 0.0);
    if (result.forces) std::fill_n(result.forces, 3 * n_parts * frame.n_all(), 0.0);
    if (result.virial) std::fill_n(result.virial, 9 * n_parts, 0.0);
    if (result.atom_virial) std::fill_n(result.atom_virial, 9 * n_parts * frame.n_all(), 0.0);
    for_each_block(frame, result.wants_derivatives(), [&] { evaluate_output_block(frame, result); });
    if (result.output && metadata_.output.is_mean && frame.n_local > 0) {
      for (std::size_t c = 0; c < width; ++c) result.output[c] /= frame.n_local;
    }
  }

 private:
  // Messages and fragments reach over the borders of blocks, so that such models take a frame in one piece.
  static std::int64_t pairs_per_call(const Metadata& metadata, const at::Device& device) {
    if (metadata.passes_messages || metadata.has_fragments()) return std::numeric_limits<std::int64_t>::max();
    return device.is_cpu() ? kPairsPerCallCpu : kPairsPerCallGpu;
  }

  template <class Work>
  void for_each_block(const Frame& frame, bool with_derivatives, Work&& work) {
    with_torch_errors("evaluating the model", [&] {
      // The module differentiates inside, so gradients must be on, whatever the caller does. Its graph is run as
      // written: specialising it to the first shapes costs seconds and is undone by the next ones.
      const c10::AutoGradMode with_gradients(with_derivatives);
      const torch::jit::GraphOptimizerEnabledGuard as_written(false);
      // OpenMP keeps the number per calling thread, so it is set here and not at the opening.
      if (n_threads_ > 0 && at::get_num_threads() != n_threads_) at::set_num_threads(n_threads_);
      blocks_.start(frame);
      while (blocks_.next(block_)) work();
    });
  }

  at::Tensor on_device(void* data, std::vector<std::int64_t> shape, at::ScalarType type) const {
    const auto tensor = at::from_blob(data, shape, at::TensorOptions(type));
    return device_.is_cpu() ? tensor : tensor.to(device_);
  }

  c10::IValue fparam_of(const Frame& frame) const {
    if (!frame.fparam) return {};
    const std::int64_t dim = metadata_.dim_fparam;
    return on_device(const_cast<double*>(frame.fparam), {1, dim}, at::kDouble).expand({block_.n_centers, dim});
  }

  c10::IValue aparam_of(const Frame& frame) {
    if (!frame.aparam) return {};
    const std::int64_t dim = metadata_.dim_aparam;
    if (metadata_.has_fragments()) {
      fragments_.clear();
      for (int i : block_.members) {
        const double* own = frame.aparam_of(i, metadata_.dim_aparam);
        fragments_.insert(fragments_.end(), own, own + dim);
      }
      return on_device(fragments_.data(), {static_cast<std::int64_t>(block_.members.size()), dim}, at::kDouble);
    }
    const at::Tensor given = on_device(const_cast<double*>(frame.aparam) + block_.first_center * dim,
                                       {block_.n_counted, dim}, at::kDouble);
    // Ghosts that only pass messages have no parameters, and their own outputs are not counted.
    return at::cat({given, at::zeros({block_.n_centers - block_.n_counted, dim}, given.options())});
  }

  std::vector<c10::IValue> arguments(const Frame& frame) {
    const auto n_pairs = static_cast<std::int64_t>(block_.n_pairs());
    const auto n_members = static_cast<std::int64_t>(block_.members.size());
    std::vector<c10::IValue> all = {on_device(block_.vectors.data(), {n_pairs, 3}, at::kDouble),
                                    on_device(block_.centers.data(), {n_pairs}, at::kLong),
                                    on_device(block_.neighbors.data(), {n_pairs}, at::kLong),
                                    on_device(block_.types.data(), {n_members}, at::kLong),
                                    static_cast<std::int64_t>(block_.n_centers), fparam_of(frame), aparam_of(frame)};
    if (!frame.spins) return all;
    spins_.clear();
    for (int i : block_.members) spins_.insert(spins_.end(), frame.spins + 3 * i, frame.spins + 3 * i + 3);
    all.emplace_back(on_device(spins_.data(), {n_members, 3}, at::kDouble));
    return all;
  }

  void add_spin_forces(const at::Tensor& gradient, const Result& result) const {
    const double* g = gradient.data_ptr<double>();
    for (std::size_t k = 0; result.spin_forces && k < block_.members.size(); ++k) {
      double* to = result.spin_forces + 3 * static_cast<std::size_t>(block_.members[k]);
      for (std::size_t a = 0; a < 3; ++a) to[a] -= g[3 * k + a];
    }
  }

  void evaluate_block(const Frame& frame, const Result& result) {
    const auto n_pairs = static_cast<std::int64_t>(block_.n_pairs());
    at::Tensor energy, gradient;
    if (block_.n_counted == block_.n_centers) {
      const auto output = module_.forward(arguments(frame)).toGenericDict();
      energy = take(output, "atom_energy", {block_.n_centers});
      gradient = take(output, "pair_gradient", {n_pairs, 3});
      if (frame.spins) {
        add_spin_forces(take(output, "spin_gradient", {static_cast<std::int64_t>(block_.members.size()), 3}), result);
      }
    } else {  // the module's own derivatives would be of all centres
      const Outputs found = differentiate("atom_energy", frame, nullptr, true);
      energy = on_host(found.values);
      gradient = on_host(found.gradient);
    }
    add_block(block_, energy.data_ptr<double>(), gradient.data_ptr<double>(), result);
  }

  struct Outputs {
    at::Tensor values;    // [n_counted, width]
    at::Tensor gradient;  // [n_pairs, n_parts, 3] of the sums over the counted centres
  };

  // A method of the module that returns the outputs of the centres, and its derivatives: one part for each component, or
  // one for the sum with weights [n_local][width].
  Outputs differentiate(const char* method, const Frame& frame, const double* weights, bool with_derivatives) {
    const auto run = module_.find_method(method);
    if (!run) throw Error(DEEPMD_ERROR_FORMAT, text("the model has no method ", method, "; freeze it anew"));
    std::vector<c10::IValue> inputs = arguments(frame);
    const at::Tensor vectors = inputs[0].toTensor().set_requires_grad(with_derivatives);
    const at::Tensor all = (*run)(inputs).toTensor();
    if (all.size(0) != block_.n_centers) throw Error(DEEPMD_ERROR_FORMAT, "the model returned too few outputs; freeze it anew");
    Outputs found;
    found.values = all.reshape({block_.n_centers, -1}).slice(0, 0, block_.n_counted);
    if (!with_derivatives) return found;
    const std::int64_t width = found.values.size(1);
    std::vector<at::Tensor> sums;
    if (weights) {
      double* own = const_cast<double*>(weights) + block_.first_center * width;
      sums.push_back(at::mul(found.values, on_device(own, {block_.n_counted, width}, at::kDouble)).sum());
    } else {
      for (std::int64_t c = 0; c < width; ++c) sums.push_back(found.values.select(1, c).sum());
    }
    std::vector<at::Tensor> parts;
    for (const at::Tensor& sum : sums) {
      at::Tensor part;  // undefined where nothing depends on the vectors
      if (sum.requires_grad()) part = torch::autograd::grad({sum}, {vectors}, {}, true, false, true)[0];
      parts.push_back(part.defined() ? part : at::zeros_like(vectors));
    }
    found.gradient = at::stack(parts, 1);
    return found;
  }

  void evaluate_output_block(const Frame& frame, const OutputResult& result) {
    const bool with_derivatives = result.wants_derivatives();
    const Outputs found = differentiate("atom_output", frame, result.weights, with_derivatives);
    const auto width = static_cast<std::size_t>(metadata_.output.width);
    const at::Tensor values = on_host(found.values);
    if (static_cast<std::size_t>(values.size(1)) != width) {
      throw Error(DEEPMD_ERROR_FORMAT, text("the model returned ", values.size(1), " numbers for each atom, expected ", width,
                                            "; freeze it anew"));
    }
    const double* value = values.data_ptr<double>();
    const auto first = static_cast<std::size_t>(block_.first_center);
    for (std::size_t k = 0; k < width * static_cast<std::size_t>(block_.n_counted); ++k) {
      if (result.output) result.output[k % width] += value[k];
      if (result.atom_output) result.atom_output[width * first + k] = value[k];
    }
    if (!with_derivatives) return;
    const at::Tensor gradient = on_host(found.gradient);
    const auto n_parts = static_cast<std::size_t>(gradient.size(1));
    for (std::size_t c = 0; c < n_parts; ++c) {
      Result part;
      if (result.forces) part.forces = result.forces + 3 * frame.n_all() * c;
      if (result.virial) part.virial = result.virial + 9 * c;
      if (result.atom_virial) part.atom_virial = result.atom_virial + 9 * frame.n_all() * c;
      add_gradient(block_, gradient.data_ptr<double>() + 3 * c, 3 * n_parts, part);
    }
  }

  static at::Tensor on_host(const at::Tensor& tensor) {
    return tensor.detach().to(at::kCPU, at::kDouble).contiguous();
  }

  at::Tensor take(const c10::Dict<c10::IValue, c10::IValue>& output, const char* name, at::IntArrayRef shape) const {
    const auto found = output.find(std::string(name));
    if (found == output.end()) {
      throw Error(DEEPMD_ERROR_FORMAT, text("the model returned no ", name, "; freeze it anew"));
    }
    const at::Tensor tensor = on_host(found->value().toTensor());
    if (tensor.sizes() != shape) {
      throw Error(DEEPMD_ERROR_FORMAT, text("the model returned ", name, " with shape ", tensor.sizes(), ", expected ",
                                            shape, "; freeze it anew"));
    }
    return tensor;
  }

  Metadata metadata_;
  std::string description_;
  at::Device device_;
  int n_threads_;
  torch::jit::Module module_;
  PairBlocks blocks_;
  PairBlock block_;
  std::vector<double> spins_;      // [atoms of the block][3]
  std::vector<double> fragments_;  // [atoms of the block][dim_aparam], of models of fragments
};

// Runs `work` and turns exceptions into a status and a sentence.
template <class Work>
deepmd_status bordered(std::string* problem, Work&& work) noexcept {
  try {
    work();
    return DEEPMD_OK;
  } catch (const Error& e) {
    *problem = e.what();
    return e.status();
  } catch (const std::bad_alloc&) {
    return DEEPMD_ERROR_MEMORY;
  } catch (const std::exception& e) {
    *problem = e.what();
    return DEEPMD_ERROR_INTERNAL;
  } catch (...) {
    return DEEPMD_ERROR_INTERNAL;
  }
}

deepmd_status open(const ModelFile& file, const DeviceChoice& device, Potential** opened, std::string* problem) {
  return bordered(problem, [&] {
    *opened = with_torch_errors("loading the TorchScript module of " + file.path(),
                                [&] { return std::make_unique<ScriptPotential>(file, device); })
                  .release();
  });
}

deepmd_status evaluate(Potential& potential, const Frame& frame, const Result& result, std::string* problem) {
  return bordered(problem, [&] { potential.evaluate(frame, result); });
}

deepmd_status evaluate_output(Potential& potential, const Frame& frame, const OutputResult& result,
                              std::string* problem) {
  return bordered(problem, [&] { potential.evaluate_output(frame, result); });
}

const char* describe(const Potential& potential) { return static_cast<const ScriptPotential&>(potential).describe(); }
void close(Potential* potential) { delete potential; }
int count_gpus() { return static_cast<int>(at::getNumGPUs()); }

}  // namespace
}  // namespace deepmd

const deepmd::ScriptBorder* deepmd_script_border(void) {
  static const deepmd::ScriptBorder functions = {deepmd::open,     deepmd::evaluate, deepmd::evaluate_output,
                                                 deepmd::describe, deepmd::close,    deepmd::count_gpus};
  return &functions;
}
