# Questions to Python about packages that are installed as wheels.
#
# A build front end may run CMake inside an isolated environment, which it sets up through PYTHONPATH. Packages of the
# environment that the user installs into (torch above all) are found by asking the same interpreter without it.

if(NOT Python_EXECUTABLE)
  find_package(Python REQUIRED COMPONENTS Interpreter)
endif()

# Interpreters worth asking: the build's own, then the one of the active environment (some front ends isolate the
# build in an environment of its own).
set(DEEPMD_PYTHON_CANDIDATES ${Python_EXECUTABLE})
foreach(environment VIRTUAL_ENV CONDA_PREFIX)
  if(DEFINED ENV{${environment}} AND EXISTS "$ENV{${environment}}/bin/python")
    list(APPEND DEEPMD_PYTHON_CANDIDATES "$ENV{${environment}}/bin/python")
  endif()
endforeach()
list(REMOVE_DUPLICATES DEEPMD_PYTHON_CANDIDATES)

# Runs `code` in the user's environment, then in the build environment; the first answer that is not empty counts.
# Sets `result` to what was printed, or to "" if nobody could answer.
function(deepmd_ask_python result code)
  set(${result} "" PARENT_SCOPE)
  foreach(unset_variables "--unset=PYTHONPATH;--unset=PYTHONNOUSERSITE" "")
    foreach(python IN LISTS DEEPMD_PYTHON_CANDIDATES)
      execute_process(
        COMMAND ${CMAKE_COMMAND} -E env ${unset_variables} ${python} -c "${code}"
        OUTPUT_VARIABLE answer ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
      if(NOT failed AND NOT answer STREQUAL "")
        set(${result} "${answer}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
endfunction()

# Sets `result` to the folder of the installed package `name`, or to "".
function(deepmd_find_package_folder result name)
  deepmd_ask_python(folder
    "import importlib.util as u; s = u.find_spec('${name}'); print(s.submodule_search_locations[0] if s else '')")
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# Makes the target nlohmann_json::nlohmann_json, from the wheel or from the system.
function(deepmd_find_json)
  if(TARGET nlohmann_json::nlohmann_json)
    return()
  endif()
  deepmd_find_package_folder(folder nlohmann_json)
  if(folder)
    add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED GLOBAL)
    target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE ${folder}/include)
  else()
    find_package(nlohmann_json QUIET GLOBAL)
    if(NOT nlohmann_json_FOUND)
      message(FATAL_ERROR "The header-only library nlohmann_json was not found; run `pip install nlohmann-json`.")
    endif()
  endif()
endfunction()
