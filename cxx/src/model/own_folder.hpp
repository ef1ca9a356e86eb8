#pragma once

#include <string>

namespace deepmd {

// The folder of the library that this code is in, with a slash at the end; "" if it cannot be told.
std::string own_folder();

}  // namespace deepmd
