/* The reference loops in double precision. */
#define REAL  double
#define LOOPS reference_loops_f64
#include "backend/reference/loops.inc"
