/* Of load.c: whether a call's answer is the one it must be. */
#pragma once

#include "dendrite/load.h"
#include "rpc/unary.h"

/* Of a call whose status is OK. False with a sentence when the answer isn't a tensor of the case's shape and values. It
 * is compared where gRPC received it, block by block, without a copy of the whole. */
bool load_answer_check(const UnaryCall *call, const LoadCase *item, double tolerance, Error *error);
