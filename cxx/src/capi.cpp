#include "deepmd/deepmd.h"

#define STUB { return DEEPMD_ERROR_UNSUPPORTED; }
const char* deepmd_last_error(void) { return ""; }
const char* deepmd_status_name(deepmd_status) { return "DP_OK"; }
const char* deepmd_version(void) { return DEEPMD_VERSION; }
void deepmd_open_options_init(deepmd_open_options* o) { *o = {}; o->size = sizeof *o; o->run_selftest = 1; }
deepmd_status deepmd_model_open(const char*, const deepmd_open_options*, deepmd_model**) STUB
void deepmd_model_free(deepmd_model*) {}
deepmd_status deepmd_model_info(const deepmd_model*, deepmd_info*) STUB
deepmd_status deepmd_neighbors_new(double, double, deepmd_neighbors**) STUB
void deepmd_neighbors_free(deepmd_neighbors*) {}
deepmd_status deepmd_neighbors_update(deepmd_neighbors*, int, const double*, const double*, const int*, deepmd_list*,
                                      int*) STUB
void deepmd_input_init(deepmd_input* i) { *i = {}; i->size = sizeof *i; }
void deepmd_output_init(deepmd_output* o) { *o = {}; o->size = sizeof *o; }
deepmd_status deepmd_evaluate(deepmd_model*, const deepmd_input*, deepmd_output*) STUB
deepmd_status deepmd_selftest(deepmd_model*, double*) STUB
