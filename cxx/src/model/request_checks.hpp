#pragma once

#include "model/metadata.hpp"
#include "model/model.hpp"

namespace deepmd {

// Throws DEEPMD_ERROR_ARGUMENT or _GEOMETRY with the first thing that is wrong with the request.
void check_request(const Request& request, const Metadata& metadata);

}  // namespace deepmd
