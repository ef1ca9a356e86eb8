#pragma once

namespace deepmd::device {

// How products of the fitting net are made in mixed precision; see split_product.hpp.
enum class ProductKind {
  plain,  // as the type computes
  split,  // float32 by three products of TF32
  tf32,   // float32 by one
};

}  // namespace deepmd::device
