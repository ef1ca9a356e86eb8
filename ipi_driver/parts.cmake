# Makes the static library `name` of the driver's parts.
set(DP_IPI_SOURCE_FOLDER ${CMAKE_CURRENT_LIST_DIR})

function(dp_ipi_add_parts name)
  set(sources atom_names driver_config help joint_system list_pool model_evaluator protocol socket)
  list(TRANSFORM sources PREPEND ${DP_IPI_SOURCE_FOLDER}/)
  list(TRANSFORM sources APPEND .cpp)
  add_library(${name} STATIC ${sources})
  target_compile_features(${name} PUBLIC cxx_std_17)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wshadow)
  target_include_directories(${name} PUBLIC
    ${DP_IPI_SOURCE_FOLDER} ${DP_IPI_SOURCE_FOLDER}/../cxx/include ${DP_IPI_SOURCE_FOLDER}/../cxx/src)
  target_link_libraries(${name} PRIVATE nlohmann_json::nlohmann_json)
endfunction()
