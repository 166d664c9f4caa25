/* Every kernel of a level, by the name it has across files; simd.h says what each does. */
#pragma once

#include "backend/cpu/simd/level.h"

void LEVEL(lanes_from_plain)(const float *src, int64_t src_stride, int64_t batch, int64_t features, float scale,
                             float shift, float *dst, int64_t begin, int64_t end);
void LEVEL(lanes_to_plain)(const float *src, int64_t batch, int64_t features, float *dst, int64_t dst_stride,
                           int64_t begin, int64_t end);

void LEVEL(conv2d_lanes)(const SimdConv *c, const SimdConvForward *f, int64_t begin, int64_t end);
void LEVEL(conv2d_grad_input_lanes)(const SimdConv *c, const float *dy, const float *weight, float *dx, int64_t begin,
                                    int64_t end);
void LEVEL(conv2d_grad_parameters_lanes)(const SimdConv *c, const float *dy, const float *x, float *dw, float *db,
                                         float *scratch, int64_t channel_begin, int64_t channel_end, int64_t begin,
                                         int64_t end);
int64_t LEVEL(grad_parameters_scratch)(const SimdConv *c);
void LEVEL(conv2d_plain)(const SimdConv *c, const SimdConvForward *f, float *scratch, int64_t channel_begin,
                         int64_t channel_end, int64_t begin, int64_t end);
int64_t LEVEL(conv2d_plain_scratch)(const SimdConv *c);
void LEVEL(linear_rows)(const float *weight, const float *bias, const float *x, int64_t x_stride, int64_t batch,
                        int64_t inputs, bool relu, float *y, int64_t y_stride, int64_t begin, int64_t end);

void LEVEL(max_pool2_lanes)(const float *x, int64_t in_height, int64_t in_width, float *y, uint8_t *index,
                            int64_t begin, int64_t end);
void LEVEL(max_pool2_lanes_backward)(const float *dy, const uint8_t *index, int64_t in_height, int64_t in_width,
                                     float *dx, int64_t begin, int64_t end);

void LEVEL(relu)(const float *x, float *y, int64_t begin, int64_t end);
void LEVEL(relu_grad)(const float *y, const float *dy, float *dx, int64_t begin, int64_t end);
void LEVEL(gelu)(const float *x, bool by_tanh, float *y, int64_t begin, int64_t end);
void LEVEL(gelu_grad)(const float *dy, const float *x, bool by_tanh, float *dx, int64_t begin, int64_t end);
void LEVEL(add)(const float *a, const float *b, float *y, int64_t begin, int64_t end);
void LEVEL(mul)(const float *a, const float *b, float *y, int64_t begin, int64_t end);
void LEVEL(affine)(const float *x, float scale, float shift, float *y, int64_t begin, int64_t end);
void LEVEL(axpy)(float a, const float *x, float *y, int64_t begin, int64_t end);
void LEVEL(sgd_momentum)(const SimdSgd *s, const float *gradient, float *velocity, float *weight, int64_t begin,
                         int64_t end);
double LEVEL(sum_of_squares)(const float *x, int64_t begin, int64_t end);
double LEVEL(squared_difference)(const float *a, const float *b, int64_t begin, int64_t end);
void LEVEL(difference)(const float *a, const float *b, float scale, float *y, int64_t begin, int64_t end);

void LEVEL(softmax)(const float *x, int64_t classes, float *y, int64_t begin, int64_t end);

void LEVEL(dropout_mask)(uint64_t seed, uint64_t step, uint32_t layer, double p, float *mask, int64_t begin,
                         int64_t end);
void LEVEL(dropout_mask_lanes)(uint64_t seed, uint64_t step, uint32_t layer, double p, int64_t batch, int64_t channels,
                               float *mask, int64_t begin, int64_t end);
