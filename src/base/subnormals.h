/* Numbers below 1.2e-38 (float) take many times as long to compute with as others, on most processors. Weights that
 * fade have such products (after 50,000 gradients of peers training was at 0.55 of its speed: tests/bench/soak.py), and
 * a peer may send them. To a model they are zeros.
 *
 * Per thread, and inherited by the threads that a thread starts: called first in main, it holds for all, those of
 * libraries too. Where the processor can't (neither x86-64 nor AArch64), nothing changes. */
#pragma once

/* From now on operands and results that are subnormal are zeros. */
void subnormals_flush(void);
