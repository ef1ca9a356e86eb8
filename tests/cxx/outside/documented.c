/* usage: documented_c MODEL - energy and first force component of two atoms, by the C interface of DeePMD-kit. */
#include <deepmd/c_api.h>
#include <stdio.h>

static int failed(DP_DeepPot* model) {
  const char* sentence = DP_DeepPotCheckOK(model);
  const int is_failure = sentence[0] != '\0';
  if (is_failure) fprintf(stderr, "%s\n", sentence);
  DP_DeleteChar(sentence);
  return is_failure;
}

int main(int argc, char** argv) {
  double positions[6] = {0, 0, 0, 2.4, 0.3, 0}, cell[9] = {12, 0, 0, 0, 12, 0, 0, 0, 12}, energy, forces[6];
  int types[2] = {0, 1};
  DP_DeepPot* model = DP_NewDeepPot(argc > 1 ? argv[1] : "graph.pth");
  if (failed(model)) return 1;
  DP_DeepPotCompute(model, 2, positions, types, cell, &energy, forces, NULL, NULL, NULL);
  if (failed(model)) return 1;
  printf("%.17g %.17g\n", energy, forces[0]);
  DP_DeleteDeepPot(model);
  return 0;
}
