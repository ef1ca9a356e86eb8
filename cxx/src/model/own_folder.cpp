#include "model/own_folder.hpp"

#include <dlfcn.h>

namespace deepmd {

std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&own_folder), &info) == 0 || !info.dli_fname) return "";
  const std::string own(info.dli_fname);
  const auto slash = own.rfind('/');
  return slash == std::string::npos ? std::string() : own.substr(0, slash + 1);
}

}  // namespace deepmd
