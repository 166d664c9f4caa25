/* oneDNN (2.x C API) as the cpu backend uses it: primitives that run on the calling thread alone, with scratch memory
 * given by the plan.
 *
 * A Matrix product or convolution is made once, at compile time, for one share; its addresses are set once
 * (onednn_bind) and it is then run any number of times. Different calls may run at the same time on different threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct OneDnnCall OneDnnCall;

/* Must be called once by each thread that makes or runs calls: keeps oneDNN from starting threads of its own there. */
void onednn_use_one_thread(void);
/* "oneDNN 2.6.3, avx512_core"; and the vector width in bits that it allows itself (ONEDNN_MAX_CPU_ISA included): 512,
 * 256, 128. */
const char *onednn_version_text(char *out, size_t size);
int onednn_vector_bits(void);

/* c [m, n] = a [m, k] b [k, n] + bias [n]. Strides in elements. With `packed`, b is handed over in oneDNN's
 * own layout, made by onednn_pack. */
typedef struct OneDnnMatmul {
    int64_t m, n, k;
    int64_t a_row, a_column, b_row, b_column, c_row;
    bool bias, packed;
} OneDnnMatmul;

Status onednn_matmul_create(const OneDnnMatmul *matmul, OneDnnCall **out, Error *error);

typedef enum OneDnnDirection { ONEDNN_FORWARD, ONEDNN_GRAD_INPUT, ONEDNN_GRAD_PARAMETERS } OneDnnDirection;

/* Plain NCHW and [O, C / groups, KH, KW]. Addresses: forward (x, w, bias, y), input gradient (dy, w, -, dx), parameter
 * gradient (dy, x, db, dw). */
typedef struct OneDnnConvolution {
    OneDnnDirection direction;
    int64_t batch, in_channels, in_rows, in_columns, out_channels, out_rows, out_columns, groups;
    int64_t kernel[2], stride[2], padding[2];
    bool bias;
} OneDnnConvolution;

Status onednn_convolution_create(const OneDnnConvolution *convolution, OneDnnCall **out, Error *error);

size_t onednn_scratch_bytes(const OneDnnCall *call);
const char *onednn_implementation(const OneDnnCall *call); /* lives as long as the call */
/* a, b, bias, c as above; b is ignored when packed. */
void onednn_bind(OneDnnCall *call, void *a, void *b, void *bias, void *c, void *scratch);
/* Packs b (with the strides given at creation) for the calls to come. */
void onednn_pack(OneDnnCall *call, const void *b);
/* Lets `call` read what is packed for `other`, where both want the same layout; false: they don't. */
bool onednn_share_pack(OneDnnCall *call, const OneDnnCall *other);
void onednn_run(OneDnnCall *call);
void onednn_destroy(OneDnnCall *call);
