// The weights of attention among the neighbours of an atom, with the ways back that training needs.
#pragma once

#include <cstdint>

namespace deepmd {

// With w_jk = w_j w_k and c_jk = h_j . h_k, for the first counts[i] of n_slots slots and each of n_heads heads:
//   A_jk = softmax_k [(l_jk g_jk + 20) w_jk - 20] w_jk e_jk,  g = c if gated else 1,  e = scale c if directed else 1
// where the softmax also counts the empty ones of n_total slots as exp(-20). Not smooth: without 20, w and empty slots.
struct Attention {
  std::int64_t n_centers = 0, n_heads = 1, n_slots = 0;
  const std::int64_t* counts = nullptr;  // [n_centers]
  double n_total = 0;
  bool smooth = false, gated = false, directed = false;
  double scale = 1;
};

// logits [n_centers][n_heads][n_slots][n_slots], w [n_centers][n_slots], h [n_centers][n_slots][3].
template <class Real>
struct AttentionInputs {
  const Real *logits, *w, *h;
};
template <class Real>
struct AttentionOutputs {
  Real *logits, *w, *h;
};

// Zeros where a slot is empty, here and in all results.
template <class Real>
void attention_values(const Attention& a, const AttentionInputs<Real>& x, Real* weights);

// out: d . dA/dx
template <class Real>
void attention_slopes(const Attention& a, const AttentionInputs<Real>& x, const Real* d,
                      const AttentionOutputs<Real>& out);

// The derivatives of the slopes along t: d_d = dA/dx t, out = d (d . dA/dx t) / dx.
template <class Real>
void attention_bends(const Attention& a, const AttentionInputs<Real>& x, const Real* d, const AttentionInputs<Real>& t,
                     Real* d_d, const AttentionOutputs<Real>& out);

}  // namespace deepmd
