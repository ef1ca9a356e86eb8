# Makes the target deepmd_torch from the torch that Python imports.
#
# torch's own CMake package is not used: a CUDA build of torch asks for a CUDA toolkit there, which linking does not
# need. libtorch pulls in the CUDA libraries where torch has them.

deepmd_ask_python(torch_answer [[
import torch, torch.utils.cpp_extension as e
print(torch.__version__, int(torch.compiled_with_cxx11_abi()), torch.__path__[0], *e.include_paths(), sep=';')
]])
if(torch_answer STREQUAL "")
  message(FATAL_ERROR
    "No torch was found through ${DEEPMD_PYTHON_CANDIDATES}, expected torch >= 2.10 in the environment that "
    "deepmd-engine is installed into; run `pip install torch` there first, and add --no-build-isolation if your "
    "installer builds in an environment of its own.")
endif()
list(POP_FRONT torch_answer DEEPMD_TORCH_VERSION torch_cxx11_abi torch_folder)
set(torch_include_folders ${torch_answer})
set(DEEPMD_TORCH_LIBRARY_FOLDER ${torch_folder}/lib)
if(DEEPMD_TORCH_VERSION VERSION_LESS 2.10)
  message(FATAL_ERROR "torch ${DEEPMD_TORCH_VERSION} was found in ${torch_folder}, expected 2.10 or newer; "
    "run `pip install --upgrade torch`.")
endif()
message(STATUS "torch ${DEEPMD_TORCH_VERSION} in ${torch_folder}")

add_library(deepmd_torch INTERFACE)
target_include_directories(deepmd_torch SYSTEM INTERFACE ${torch_include_folders})
target_compile_definitions(deepmd_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=${torch_cxx11_abi})
# torch >= 2.12 headers use C++20; a compiler without it can still build against an older torch.
if("cxx_std_20" IN_LIST CMAKE_CXX_COMPILE_FEATURES)
  target_compile_features(deepmd_torch INTERFACE cxx_std_20)
else()
  target_compile_features(deepmd_torch INTERFACE cxx_std_17)
endif()
# --no-as-needed: nothing refers to libtorch itself, but through it the CUDA libraries register themselves.
target_link_libraries(deepmd_torch INTERFACE
  "-Wl,--no-as-needed,${DEEPMD_TORCH_LIBRARY_FOLDER}/libtorch.so"
  ${DEEPMD_TORCH_LIBRARY_FOLDER}/libtorch_cpu.so ${DEEPMD_TORCH_LIBRARY_FOLDER}/libc10.so "-Wl,--as-needed")
