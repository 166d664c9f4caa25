#include "backend/cpu/peak.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static double now(void)
{
    return clock_seconds(clock_now(clock_monotonic()));
}

/* Other processes take their part of a core now and then: the best of many short runs is what the machine can do. */
static const double PATIENCE = 0.25; /* seconds */

/* --- arithmetic ---
 * Enough independent chains to hide the latency of a multiply-add (4 to 5 cycles, two a cycle), few enough to stay in
 * registers. Chains approach a fixed point, so they never overflow. Each loop returns a number made of all chains,
 * which its caller keeps, so that no chain can be left out. */

enum { ROUNDS = 1 << 18 };

typedef struct Arithmetic {
    float (*loop)(int64_t rounds);
    int64_t operations; /* a round */
} Arithmetic;

#define UNROLL _Pragma("GCC unroll 32")

#if defined(__x86_64__)
enum { CHAINS_512 = 24, CHAINS_256 = 12 };

__attribute__((target("avx512f"))) static float multiply_add_512(int64_t rounds)
{
    __m512 chains[CHAINS_512], factor = _mm512_set1_ps(0.5f), term = _mm512_set1_ps(1.0f), sum = _mm512_setzero_ps();
    UNROLL for (int i = 0; i < CHAINS_512; i++) chains[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
        UNROLL for (int i = 0; i < CHAINS_512; i++) chains[i] = _mm512_fmadd_ps(chains[i], factor, term);
    UNROLL for (int i = 0; i < CHAINS_512; i++) sum = _mm512_add_ps(sum, chains[i]);
    return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) static float multiply_add_256(int64_t rounds)
{
    __m256 chains[CHAINS_256], factor = _mm256_set1_ps(0.5f), term = _mm256_set1_ps(1.0f), sum = _mm256_setzero_ps();
    UNROLL for (int i = 0; i < CHAINS_256; i++) chains[i] = _mm256_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
        UNROLL for (int i = 0; i < CHAINS_256; i++) chains[i] = _mm256_fmadd_ps(chains[i], factor, term);
    UNROLL for (int i = 0; i < CHAINS_256; i++) sum = _mm256_add_ps(sum, chains[i]);
    return _mm256_cvtss_f32(sum);
}
#endif

typedef float Four __attribute__((vector_size(16)));
enum { CHAINS_128 = 12 };

static float multiply_add_128(int64_t rounds)
{
    Four chains[CHAINS_128], factor = {0.5f, 0.5f, 0.5f, 0.5f}, term = {1, 1, 1, 1}, sum = {0};
    UNROLL for (int i = 0; i < CHAINS_128; i++) chains[i] = factor * (float)i;
    for (int64_t round = 0; round < rounds; round++)
        UNROLL for (int i = 0; i < CHAINS_128; i++) chains[i] = chains[i] * factor + term;
    UNROLL for (int i = 0; i < CHAINS_128; i++) sum += chains[i];
    return sum[0];
}

static Arithmetic widest(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return (Arithmetic){multiply_add_512, 2L * 16 * CHAINS_512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return (Arithmetic){multiply_add_256, 2L * 8 * CHAINS_256};
#endif
    return (Arithmetic){multiply_add_128, 2L * 4 * CHAINS_128};
}

static void arithmetic_body(void *context, int member, int members)
{
    (void)member, (void)members;
    const Arithmetic *arithmetic = context;
    volatile float result = arithmetic->loop(ROUNDS);
    (void)result;
}

double peak_flops(Team *team)
{
    Arithmetic arithmetic = widest();
    double operations = (double)arithmetic.operations * ROUNDS * team_members(team), best = 0;
    for (double first = now(), start = first; start - first < PATIENCE; start = now()) {
        team_run(team, arithmetic_body, &arithmetic);
        double rate = operations / (now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

/* --- memory --- */

enum { LINE = 64, LEAST_BYTES = 1 << 14, LEAST_MOVED = 16 << 20 };

typedef uint64_t Line __attribute__((vector_size(LINE)));

typedef struct Stream {
    const Line *from;
    Line *to; /* NULL: read only */
    size_t lines;
    int passes;
} Stream;

static void stream_body(void *context, int member, int members)
{
    const Stream *stream = context;
    size_t begin = stream->lines * (size_t)member / (size_t)members;
    size_t end = stream->lines * ((size_t)member + 1) / (size_t)members;
    Line sums[4] = {{0}};
    for (int pass = 0; pass < stream->passes; pass++) {
        if (stream->to != NULL) {
            for (size_t i = begin; i < end; i++)
                stream->to[i] = stream->from[i] + 1;
        } else {
            size_t i = begin;
            for (; i + 4 <= end; i += 4)
                for (size_t k = 0; k < 4; k++)
                    sums[k] += stream->from[i + k];
        }
    }
    Line sum = sums[0] + sums[1] + sums[2] + sums[3];
    volatile uint64_t result = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
    (void)result;
}

static double best_rate(Team *team, Stream stream, double bytes_a_pass)
{
    double best = 0;
    for (double first = now(), start = first; start - first < PATIENCE / 2; start = now()) {
        team_run(team, stream_body, &stream);
        double rate = bytes_a_pass * stream.passes / (now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

Status peak_bandwidth(Team *team, size_t bytes, double *out, Error *error)
{
    bytes = size_align(bytes < LEAST_BYTES ? LEAST_BYTES : bytes, 2 * LINE);
    Line *memory = aligned_alloc(LINE, bytes);
    if (memory == NULL)
        return error_set(error, STATUS_RESOURCE_EXHAUSTED, "no memory to measure the bandwidth: %zu bytes", bytes);
    memset(memory, 1, bytes);
    size_t half = bytes / 2 / LINE;
    int passes = (int)(LEAST_MOVED / bytes) + 1;
    double reading = best_rate(team, (Stream){memory, NULL, 2 * half, passes}, (double)bytes);
    double copying = best_rate(team, (Stream){memory, memory + half, half, passes}, (double)bytes);
    free(memory);
    *out = reading > copying ? reading : copying;
    return STATUS_OK;
}
