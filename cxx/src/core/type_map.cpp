#include "core/type_map.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace deepmd {

int type_of(const std::vector<std::string>& type_map, const std::string& name) {
  const auto found = std::find(type_map.begin(), type_map.end(), name);
  if (found != type_map.end()) return static_cast<int>(found - type_map.begin());
  std::string known;
  for (const std::string& each : type_map) known += (known.empty() ? "" : " ") + each;
  throw Error(DEEPMD_ERROR_ARGUMENT,
              text("the model does not know the element '", name, "', expected one of its type_map: ", known));
}

}  // namespace deepmd
