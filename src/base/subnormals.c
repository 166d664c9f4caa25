#include "base/subnormals.h"

#include <stdint.h>

#if defined __SSE2__
#include <immintrin.h>

void subnormals_flush(void)
{
    const unsigned results = 0x8000, operands = 0x0040; /* FTZ and DAZ: Intel SDM, volume 1, 10.2.3 */
    _mm_setcsr(_mm_getcsr() | results | operands);
}

#elif defined __aarch64__

void subnormals_flush(void)
{
    const uint64_t flush = UINT64_C(1) << 24; /* FPCR.FZ: both */
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | flush));
}

#else

void subnormals_flush(void)
{
}

#endif
