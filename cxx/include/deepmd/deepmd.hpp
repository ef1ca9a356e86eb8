// The same C++ interface under the names of the header-only interface of DeePMD-kit: deepmd::hpp::DeepPot and so on.
#ifndef DEEPMD_DEEPMD_HPP
#define DEEPMD_DEEPMD_HPP

#include "deepmd/DeepPot.h"
#include "deepmd/DeepPotModelDevi.h"
#include "deepmd/DeepSpin.h"
#include "deepmd/DeepTensor.h"

namespace deepmd {
namespace hpp = ::deepmd;
}

#endif
