// libdeepmd_script.so: the only unit that includes torch; narrow headers keep its compile time bearable.

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cstdlib>
#include <istream>
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
        blocks_(metadata_.rcut, device_.is_cpu() ? kPairsPerCallCpu : kPairsPerCallGpu) {
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
    with_torch_errors("evaluating the model", [&] {
      // The module differentiates inside, so gradients must be on, whatever the caller does. Its graph is run as
      // written: specialising it to the first shapes costs seconds and is undone by the next ones.
      const c10::AutoGradMode with_gradients(true);
      const torch::jit::GraphOptimizerEnabledGuard as_written(false);
      // OpenMP keeps the number per calling thread, so it is set here and not at the opening.
      if (n_threads_ > 0 && at::get_num_threads() != n_threads_) at::set_num_threads(n_threads_);
      clear_result(frame, result);
      blocks_.start(frame);
      while (blocks_.next(block_)) evaluate_block(frame, result);
    });
  }

 private:
  at::Tensor on_device(void* data, std::vector<std::int64_t> shape, at::ScalarType type) const {
    const auto tensor = at::from_blob(data, shape, at::TensorOptions(type));
    return device_.is_cpu() ? tensor : tensor.to(device_);
  }

  c10::IValue fparam_of(const Frame& frame) const {
    if (!frame.fparam) return {};
    const std::int64_t dim = metadata_.dim_fparam;
    return on_device(const_cast<double*>(frame.fparam), {1, dim}, at::kDouble).expand({block_.n_centers, dim});
  }

  c10::IValue aparam_of(const Frame& frame) const {
    if (!frame.aparam) return {};
    const std::int64_t dim = metadata_.dim_aparam;
    return on_device(const_cast<double*>(frame.aparam) + block_.first_center * dim, {block_.n_centers, dim},
                     at::kDouble);
  }

  void evaluate_block(const Frame& frame, const Result& result) {
    const auto n_pairs = static_cast<std::int64_t>(block_.n_pairs());
    const auto output =
        module_
            .forward({on_device(block_.vectors.data(), {n_pairs, 3}, at::kDouble),
                      on_device(block_.centers.data(), {n_pairs}, at::kLong),
                      on_device(block_.neighbors.data(), {n_pairs}, at::kLong),
                      on_device(block_.types.data(), {static_cast<std::int64_t>(block_.types.size())}, at::kLong),
                      static_cast<std::int64_t>(block_.n_centers), fparam_of(frame), aparam_of(frame)})
            .toGenericDict();
    const at::Tensor energy = take(output, "atom_energy", {block_.n_centers});
    const at::Tensor gradient = take(output, "pair_gradient", {n_pairs, 3});
    add_block(block_, energy.data_ptr<double>(), gradient.data_ptr<double>(), result);
  }

  at::Tensor take(const c10::Dict<c10::IValue, c10::IValue>& output, const char* name, at::IntArrayRef shape) const {
    const auto found = output.find(std::string(name));
    if (found == output.end()) {
      throw Error(DEEPMD_ERROR_FORMAT, text("the model returned no ", name, "; freeze it anew"));
    }
    const at::Tensor tensor = found->value().toTensor().detach().to(at::kCPU, at::kDouble).contiguous();
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

const char* describe(const Potential& potential) { return static_cast<const ScriptPotential&>(potential).describe(); }
void close(Potential* potential) { delete potential; }
int count_gpus() { return static_cast<int>(at::getNumGPUs()); }

}  // namespace
}  // namespace deepmd

const deepmd::ScriptBorder* deepmd_script_border(void) {
  static const deepmd::ScriptBorder functions = {deepmd::open, deepmd::evaluate, deepmd::describe, deepmd::close,
                                                 deepmd::count_gpus};
  return &functions;
}
