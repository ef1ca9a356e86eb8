#pragma once

#include <string>
#include <vector>

namespace deepmd {

// Index of the element name in type_map [n_types]. Throws an error that lists the names the model knows.
int type_of(const std::vector<std::string>& type_map, const std::string& name);

}  // namespace deepmd
