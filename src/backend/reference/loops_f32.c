/* The reference loops in single precision. */
#define REAL  float
#define LOOPS reference_loops_f32
#include "backend/reference/loops.inc"
