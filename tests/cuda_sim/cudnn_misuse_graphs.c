/* Misuse of what is made of descriptors: operations, graphs, and the way from them to a plan. */
#include <string.h>

#include "cudnn_misuse.h"
#include "dnn_descriptors.h"

/* --- what is right --- */

/* x [2, 8, 4, 4], w [16, 8, 3, 3], padding 1 -> y [2, 16, 4, 4] */
static TensorParts x_parts(void)
{
    return desc_tensor_parts(2, 8, 4, 4, 1);
}
static TensorParts w_parts(void)
{
    return desc_tensor_parts(16, 8, 3, 3, 2);
}
static TensorParts y_parts(void)
{
    return desc_tensor_parts(2, 16, 4, 4, 3);
}

/* As dnn.c does: NULL where there is none. */
static Descriptor first_config(Descriptor heuristics)
{
    Descriptor configs[DESC_CONFIGS];
    return desc_configs(heuristics, configs) > 0 ? configs[0] : NULL;
}

static Descriptor graph_with(TensorParts x)
{
    const Descriptor one = desc_forward(desc_convolution(desc_convolution_parts(1)), desc_tensor(x),
                                        desc_tensor(w_parts()), desc_tensor(y_parts()), true);
    return desc_graph(&one, 1);
}

static Descriptor good_graph(void)
{
    return graph_with(x_parts());
}

static Descriptor plan_of(Descriptor device, Descriptor config)
{
    Descriptor d = desc_plan(device, config);
    desc_finalize(d);
    return d;
}

/* The whole way: graph, heuristics, configuration, plan. No configuration is said by NOT_SUPPORTED. */
static cudnnStatus_t all_the_way(Descriptor device, Descriptor of)
{
    Descriptor config = first_config(desc_heuristics(device, of));
    if (desc_refusal() == CUDNN_STATUS_SUCCESS && config == NULL) return CUDNN_STATUS_NOT_SUPPORTED;
    if (desc_refusal() == CUDNN_STATUS_SUCCESS) plan_of(device, config);
    return desc_refusal();
}

/* --- and what is not --- */

static cudnnStatus_t nothing_wrong(Descriptor device, int variant)
{
    (void)variant;
    return all_the_way(device, good_graph());
}

/* A type that is none of cuDNN's. */
static cudnnStatus_t unknown_data_type(Descriptor device, int variant)
{
    TensorParts x = x_parts();
    (void)variant;
    x.type = (cudnnDataType_t)999;
    return all_the_way(device, graph_with(x));
}

enum {
    NO_X,
    NO_W,
    NO_Y,
    NO_CONVOLUTION,
    Y_ROWS,
    Y_CHANNELS,
    Y_BATCH,
    GROUP_CHANNELS,
    GROUP_OUTPUTS,
    MIXED_INPUTS,
    INTEGER_INPUT,
    SAME_UID,
    IN_PLACE,
    UNFINISHED_TENSOR,
    UNFINISHED_CONVOLUTION,
    VIRTUAL_RESULT,
    NO_SCALES,
    TENSOR_FOR_CONVOLUTION,
    CONVOLUTION_FOR_TENSOR,
    DOUBLE_SUMS
};

static Descriptor bad_operation_graph(int variant)
{
    TensorParts x = x_parts(), w = w_parts(), y = y_parts();
    ConvolutionParts c = desc_convolution_parts(1);
    if (variant == Y_ROWS) y = desc_tensor_parts(2, 16, 5, 4, 3);
    if (variant == Y_CHANNELS) y = desc_tensor_parts(2, 15, 4, 4, 3);
    if (variant == Y_BATCH) y = desc_tensor_parts(3, 16, 4, 4, 3);
    if (variant == GROUP_CHANNELS) w = desc_tensor_parts(16, 3, 3, 3, 2);
    if (variant == GROUP_OUTPUTS) w = desc_tensor_parts(15, 1, 3, 3, 2);
    if (variant == GROUP_OUTPUTS) y = desc_tensor_parts(2, 15, 4, 4, 3);
    if (variant == MIXED_INPUTS) w.type = CUDNN_DATA_HALF;
    if (variant == INTEGER_INPUT) x.type = CUDNN_DATA_INT32;
    if (variant == SAME_UID) y.uid = 1;
    if (variant == UNFINISHED_TENSOR) x.unfinished = true;
    if (variant == UNFINISHED_CONVOLUTION) c.unfinished = true;
    if (variant == VIRTUAL_RESULT) y.is_virtual = true;
    if (variant == DOUBLE_SUMS) c.type = CUDNN_DATA_DOUBLE;
    Descriptor cd = desc_convolution(c), xd = desc_tensor(x), wd = desc_tensor(w), yd = desc_tensor(y);
    if (variant == IN_PLACE) yd = xd;
    if (variant == TENSOR_FOR_CONVOLUTION) cd = wd;
    if (variant == CONVOLUTION_FOR_TENSOR) xd = cd;
    const Descriptor one = desc_forward(variant == NO_CONVOLUTION ? NULL : cd, variant == NO_X ? NULL : xd,
                                        variant == NO_W ? NULL : wd, variant == NO_Y ? NULL : yd, variant != NO_SCALES);
    return desc_graph(&one, 1);
}

static cudnnStatus_t bad_operation(Descriptor device, int variant)
{
    Descriptor of = bad_operation_graph(variant);
    return desc_refusal() != CUDNN_STATUS_SUCCESS ? desc_refusal() : all_the_way(device, of);
}

enum {
    EMPTY,
    CYCLE,
    NULL_OPERATION,
    TENSOR_FOR_OPERATION,
    UNRELATED,
    BIAS_SHAPE,
    ADD_WITHOUT_B,
    UNFINISHED_OPERATION,
    NO_POINTWISE_MODE,
    NO_POINTWISE_PRECISION,
    VIRTUAL_INPUT,
    WRITTEN_TWICE
};

static cudnnStatus_t bad_graph(Descriptor device, int variant)
{
    Descriptor x = desc_tensor(x_parts()), w = desc_tensor(w_parts()), y = desc_tensor(y_parts()),
               c = desc_convolution(desc_convolution_parts(1)), two[2];
    switch (variant) {
    case EMPTY:
        desc_graph(two, 0);
        return desc_refusal();
    case CYCLE: /* the second writes what the first reads */
        two[0] = desc_forward(c, x, w, y, true);
        two[1] = desc_forward(c, y, desc_dense(16, 16, 3, 3, 5), desc_dense(2, 16, 4, 4, 1), true);
        desc_graph(two, 2);
        return desc_refusal();
    case NULL_OPERATION:
        two[0] = NULL;
        desc_graph(two, 1);
        return desc_refusal();
    case TENSOR_FOR_OPERATION:
        desc_graph(&x, 1);
        return desc_refusal();
    case UNRELATED:
        two[0] = desc_forward(c, x, w, y, true);
        two[1] =
            desc_forward(c, desc_dense(2, 8, 4, 4, 11), desc_dense(16, 8, 3, 3, 12), desc_dense(2, 16, 4, 4, 13), true);
        return all_the_way(device, desc_graph(two, 2));
    case VIRTUAL_INPUT: {
        TensorParts p = x_parts();
        p.is_virtual = true;
        two[0] = desc_forward(c, desc_tensor(p), w, y, true);
        return all_the_way(device, desc_graph(two, 1));
    }
    case WRITTEN_TWICE:
        two[0] = desc_forward(c, x, w, y, true);
        two[1] = desc_forward(c, desc_dense(2, 8, 4, 4, 11), w, y, true);
        return all_the_way(device, desc_graph(two, 2));
    case UNFINISHED_OPERATION:
        two[0] = desc_make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        desc_graph(two, 1);
        return desc_refusal();
    default: {
        TensorParts sum = y_parts();
        sum.uid = 5;
        sum.is_virtual = true;
        const AddParts parts = variant == NO_POINTWISE_MODE        ? ADD_NO_MODE
                               : variant == NO_POINTWISE_PRECISION ? ADD_NO_PRECISION
                                                                   : ADD_ALL;
        Descriptor between = desc_tensor(sum), bias = desc_dense(1, variant == BIAS_SHAPE ? 7 : 16, 1, 1, 4);
        two[0] = desc_forward(c, x, w, between, true);
        two[1] = desc_add(parts, between, variant == ADD_WITHOUT_B ? NULL : bias, y);
        return all_the_way(device, desc_graph(two, 2));
    }
    }
}

enum { NO_MODE, NO_GRAPH, NO_DEVICE, UNKNOWN_MODE, UNFINISHED_GRAPH, TENSOR_FOR_GRAPH };

static cudnnStatus_t bad_heuristics(Descriptor device, int variant)
{
    Descriptor of = good_graph(), d = desc_make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    const cudnnBackendHeurMode_t mode = variant == UNKNOWN_MODE ? (cudnnBackendHeurMode_t)77 : CUDNN_HEUR_MODE_A;
    if (variant == UNFINISHED_GRAPH) of = desc_make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (variant == TENSOR_FOR_GRAPH) of = desc_tensor(x_parts());
    if (variant != NO_GRAPH) desc_link(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, of);
    if (variant != NO_MODE) desc_set(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (variant != NO_DEVICE) desc_link(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, device);
    desc_finalize(d);
    if (desc_refusal() == CUDNN_STATUS_SUCCESS) first_config(d);
    return desc_refusal();
}

enum {
    PLAN_NO_DEVICE,
    PLAN_NO_CONFIG,
    PLAN_EMPTY_CONFIG,
    PLAN_GARBAGE,
    PLAN_EMPTY_TEXT,
    PLAN_GRAPH_FOR_CONFIG,
    PLAN_WORKSPACE_UNFINISHED
};

static cudnnStatus_t bad_plan(Descriptor device, int variant)
{
    Descriptor d = desc_make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t count = 0, value = 0;
    switch (variant) {
    case PLAN_NO_DEVICE:
        plan_of(NULL, first_config(desc_heuristics(device, good_graph())));
        break;
    case PLAN_NO_CONFIG:
        plan_of(device, NULL);
        break;
    case PLAN_EMPTY_CONFIG:
        plan_of(device, desc_make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
        break;
    case PLAN_GRAPH_FOR_CONFIG:
        plan_of(device, good_graph());
        break;
    case PLAN_WORKSPACE_UNFINISHED:
        return cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                        &value);
    default: {
        const char *text = variant == PLAN_GARBAGE ? "garbage" : "{}";
        desc_link(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, device);
        desc_set(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text), text);
        desc_finalize(d);
        break;
    }
    }
    return desc_refusal();
}

enum { ENGINE_UNKNOWN, ENGINE_NEGATIVE, ENGINE_NO_GRAPH, ENGINE_NO_INDEX };

static cudnnStatus_t bad_engine(Descriptor device, int variant)
{
    const int64_t index = variant == ENGINE_UNKNOWN ? 9999 : variant == ENGINE_NEGATIVE ? -1 : 0;
    Descriptor d = desc_make(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    if (variant != ENGINE_NO_GRAPH) desc_link(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, good_graph());
    if (variant != ENGINE_NO_INDEX) desc_set(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    desc_link(d, CUDNN_ATTR_ENGINE_DEVICEPROP, device);
    desc_finalize(d);
    return desc_refusal();
}

static cudnnStatus_t execute_without_handle(Descriptor device, int variant)
{
    Descriptor plan = plan_of(device, first_config(desc_heuristics(device, good_graph())));
    if (desc_refusal() != CUDNN_STATUS_SUCCESS) return desc_refusal();
    (void)variant;
    return cudnnBackendExecute(NULL, plan, NULL);
}

/* --- the table --- */

static const Misuse misuses[] = {
    {"nothing wrong", nothing_wrong, 0, ANSWERS(SUCCESS)},
    {"tensor: unknown data type", unknown_data_type, 0, CRASHES("cudnnBackendFinalize(tensor): data type 999")},
    {"operation: no x", bad_operation, NO_X, ANSWERS(BAD_PARAM)},
    {"operation: no w", bad_operation, NO_W, ANSWERS(BAD_PARAM)},
    {"operation: no y", bad_operation, NO_Y, ANSWERS(BAD_PARAM)},
    {"operation: no convolution", bad_operation, NO_CONVOLUTION, ANSWERS(BAD_PARAM)},
    {"operation: y rows", bad_operation, Y_ROWS, ANSWERS(BAD_PARAM)},
    {"operation: y channels", bad_operation, Y_CHANNELS, ANSWERS(BAD_PARAM)},
    {"operation: y batch", bad_operation, Y_BATCH, ANSWERS(BAD_PARAM)},
    {"operation: group channels", bad_operation, GROUP_CHANNELS, ANSWERS(BAD_PARAM)},
    {"operation: group outputs", bad_operation, GROUP_OUTPUTS, ANSWERS(BAD_PARAM)},
    {"operation: mixed inputs", bad_operation, MIXED_INPUTS, ANSWERS(NOT_SUPPORTED)},
    {"operation: integer input", bad_operation, INTEGER_INPUT, ANSWERS(NOT_SUPPORTED)},
    {"operation: same uid", bad_operation, SAME_UID,
     PASSES("cudnnBackendFinalize(operation graph): two different tensors have the unique id 1")},
    {"operation: in place", bad_operation, IN_PLACE, ANSWERS(BAD_PARAM)},
    {"operation: unfinished tensor", bad_operation, UNFINISHED_TENSOR, ANSWERS(BAD_PARAM)},
    {"operation: unfinished convolution", bad_operation, UNFINISHED_CONVOLUTION, ANSWERS(BAD_PARAM)},
    {"operation: virtual result", bad_operation, VIRTUAL_RESULT,
     PASSES("cudnnBackendFinalize(operation graph): nobody reads")},
    {"operation: no scales", bad_operation, NO_SCALES,
     PASSES("cudnnBackendFinalize(convolution operation): alpha is 0")},
    {"operation: tensor for convolution", bad_operation, TENSOR_FOR_CONVOLUTION, ANSWERS(BAD_PARAM)},
    {"operation: convolution for tensor", bad_operation, CONVOLUTION_FOR_TENSOR,
     CRASHES("cudnnBackendSetAttribute: CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X")},
    {"operation: double sums", bad_operation, DOUBLE_SUMS, ANSWERS(NOT_SUPPORTED)},
    {"graph: empty", bad_graph, EMPTY, ANSWERS(BAD_PARAM)},
    {"graph: cycle", bad_graph, CYCLE, ANSWERS(BAD_PARAM)},
    {"graph: null operation", bad_graph, NULL_OPERATION, ANSWERS(BAD_PARAM_NULL_POINTER)},
    {"graph: tensor for operation", bad_graph, TENSOR_FOR_OPERATION, ANSWERS(BAD_PARAM)},
    {"graph: unrelated", bad_graph, UNRELATED, ANSWERS(NOT_SUPPORTED)},
    {"graph: bias shape", bad_graph, BIAS_SHAPE, ANSWERS(NOT_SUPPORTED)},
    {"graph: add without b", bad_graph, ADD_WITHOUT_B, ANSWERS(BAD_PARAM)},
    {"graph: unfinished operation", bad_graph, UNFINISHED_OPERATION, ANSWERS(BAD_PARAM_NOT_FINALIZED)},
    {"graph: no pointwise mode", bad_graph, NO_POINTWISE_MODE,
     PASSES("cudnnBackendFinalize(pointwise): CUDNN_ATTR_POINTWISE_MODE")},
    {"graph: no pointwise precision", bad_graph, NO_POINTWISE_PRECISION,
     PASSES("cudnnBackendFinalize(pointwise): CUDNN_ATTR_POINTWISE_MATH_PREC")},
    {"graph: virtual input", bad_graph, VIRTUAL_INPUT, PASSES("cudnnBackendFinalize(operation graph): nobody writes")},
    {"graph: written twice", bad_graph, WRITTEN_TWICE, ANSWERS(BAD_PARAM)},
    {"heuristics: no mode", bad_heuristics, NO_MODE,
     PASSES("cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_MODE")},
    {"heuristics: no graph", bad_heuristics, NO_GRAPH, ANSWERS(BAD_PARAM)},
    {"heuristics: no device", bad_heuristics, NO_DEVICE,
     PASSES("cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_DEVICEPROP")},
    {"heuristics: unknown mode", bad_heuristics, UNKNOWN_MODE,
     PASSES("cudnnBackendFinalize(engine heuristics): CUDNN_ATTR_ENGINEHEUR_MODE is 77")},
    {"heuristics: unfinished graph", bad_heuristics, UNFINISHED_GRAPH, ANSWERS(BAD_PARAM_NOT_FINALIZED)},
    {"heuristics: tensor for graph", bad_heuristics, TENSOR_FOR_GRAPH,
     CRASHES("cudnnBackendSetAttribute: CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH")},
    {"plan: no device", bad_plan, PLAN_NO_DEVICE, ANSWERS(SUCCESS)},
    {"plan: no config", bad_plan, PLAN_NO_CONFIG, ANSWERS(BAD_PARAM_NOT_FINALIZED)},
    {"plan: empty config", bad_plan, PLAN_EMPTY_CONFIG, ANSWERS(BAD_PARAM_NOT_FINALIZED)},
    {"plan: garbage", bad_plan, PLAN_GARBAGE, ANSWERS(BAD_PARAM)},
    {"plan: empty text", bad_plan, PLAN_EMPTY_TEXT, ANSWERS(BAD_PARAM)},
    {"plan: graph for config", bad_plan, PLAN_GRAPH_FOR_CONFIG,
     CRASHES("cudnnBackendSetAttribute: CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG")},
    {"plan: workspace unfinished", bad_plan, PLAN_WORKSPACE_UNFINISHED, ANSWERS(NOT_INITIALIZED)},
    {"engine: unknown", bad_engine, ENGINE_UNKNOWN, ANSWERS(NOT_SUPPORTED)},
    {"engine: negative", bad_engine, ENGINE_NEGATIVE, ANSWERS(NOT_SUPPORTED)},
    {"engine: no graph", bad_engine, ENGINE_NO_GRAPH, ANSWERS(BAD_PARAM_NULL_POINTER)},
    {"engine: no index", bad_engine, ENGINE_NO_INDEX, ANSWERS(NOT_SUPPORTED)},
    {"execute without a handle", execute_without_handle, 0, ANSWERS(BAD_PARAM)},
};
const MisuseTable misuses_of_graphs = {misuses, sizeof misuses / sizeof misuses[0]};
