# Targets under the names of DeePMD-kit: DeePMD::deepmd_c (deepmd/c_api.h) and DeePMD::deepmd_cc (deepmd/DeepPot.h, deepmd/deepmd.hpp).
include(CMakeFindDependencyMacro)
find_dependency(deepmd CONFIG PATHS ${CMAKE_CURRENT_LIST_DIR}/../deepmd NO_DEFAULT_PATH)

if(NOT TARGET DeePMD::deepmd_c)
  get_filename_component(deepmd_library_folder ${CMAKE_CURRENT_LIST_DIR}/../.. ABSOLUTE)
  add_library(DeePMD::deepmd_c SHARED IMPORTED)
  set_target_properties(DeePMD::deepmd_c PROPERTIES IMPORTED_LOCATION ${deepmd_library_folder}/libdeepmd_c.so)
  target_link_libraries(DeePMD::deepmd_c INTERFACE deepmd::deepmd)
  add_library(DeePMD::deepmd_cc INTERFACE IMPORTED)
  target_link_libraries(DeePMD::deepmd_cc INTERFACE deepmd::deepmd)
endif()
