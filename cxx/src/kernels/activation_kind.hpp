#pragma once

namespace deepmd {

enum class Activation { tanh, none, relu, relu6, softplus, sigmoid, silu, gelu /* the tanh form */, silut };

}  // namespace deepmd
