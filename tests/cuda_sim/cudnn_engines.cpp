// Device properties, heuristics, engines, configurations, plans and variant packs.
//
// Heuristics answer as the real ones do: engines that break a promise (of the same bits, of full precision) come first,
// a configuration of which no plan comes is among them, and the first count that they tell is too high.
#include "cudnn_engines.h"

#include <algorithm>
#include <set>

#include "cudnn_attributes.h"
#include "machine.h"

namespace cudnn
{

namespace
{

constexpr int64_t COUNTED_TOO_MANY = 3;
constexpr int SCHEMA = 4;

// The simulated device.
constexpr char SIMULATED[] =
    "{\"deviceVer\":900,\"multiProcessorCount\":132,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
    "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"regsPerBlock\":65536,"
    "\"totalGlobalMem\":8589934592,\"smClockRateKHz\":1000000,\"l2CacheSize\":52428800,"
    "\"maxBlockSize\":[1024,1024,64],\"memClockRateKHz\":1000000,\"maxGridSize\":[2147483647,65535,65535],"
    "\"supportCoopLaunch\":1,\"pciDeviceId\":0,\"isTccDriver\":0,\"cudaDeviceId\":0,\"driverVer\":13000,"
    "\"deviceName\":\"simulated\"}";

bool is_half(cudnnDataType_t type)
{
    return type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16;
}

bool is_forward(const Problem &problem)
{
    return problem.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
}

// The type of what is multiplied.
cudnnDataType_t input_type(const Problem &problem)
{
    return problem.kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? problem.w.type
                                                                                        : problem.x.type;
}

// Fused with a bias that isn't of the inputs' type, or a ReLU alone, or another type of result: compiled only.
bool is_plain(const Problem &problem)
{
    const cudnnDataType_t input = input_type(problem);
    if (problem.result().type != input) return false;
    return problem.has_bias ? problem.bias.type == input : !problem.relu;
}

std::vector<int64_t> answer(const Problem &problem, cudnnBackendHeurMode_t mode)
{
    static const int64_t best_first[] = {SHUFFLED, HALF_SUMS,    DOWN_CONVERTING, WINOGRAD, TENSOR_CORE,
                                         COMPILED, UNFINISHABLE, LOWERED,         DIRECT};
    std::vector<int64_t> list;
    if (!problem.supported) return list;
    for (const int64_t engine : best_first)
        if (engine_supports(engine, problem) && (mode != CUDNN_HEUR_MODE_FALLBACK || engine == DIRECT))
            list.push_back(engine);
    return list;
}

size_t workspace_of(int64_t engine, const Problem &p)
{
    const size_t window = static_cast<size_t>(p.w.dims[1] * p.w.dims[2] * p.w.dims[3]);
    const size_t places = static_cast<size_t>(p.y.dims[2] * p.y.dims[3]);
    if (engine == LOWERED) return window * places * sizeof(float) + 3; // no multiple of anything, as real ones
    return engine == TENSOR_CORE && !is_forward(p) ? bytes(p.w) + 64 : 0;
}

// --- finalising ---

cudnnStatus_t finalize_device(Object &object)
{
    static const char *const fields[] = {"deviceVer",
                                         "multiProcessorCount",
                                         "warpSize",
                                         "maxSharedMemoryPerBlock",
                                         "maxRegistersPerSM",
                                         "maxCtasPerSM",
                                         "maxThreadsPerBlock",
                                         "maxThreadsPerSM",
                                         "regsPerBlock",
                                         "totalGlobalMem",
                                         "smClockRateKHz",
                                         "l2CacheSize",
                                         "memClockRateKHz",
                                         "supportCoopLaunch",
                                         "pciDeviceId",
                                         "isTccDriver",
                                         "cudaDeviceId",
                                         "driverVer",
                                         "reservedSharedMemoryPerBlock",
                                         "maxSharedMemoryPerBlockOptin"};
    const auto given = object.all<char>(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    std::string text(given.begin(), given.end());
    if (text.empty()) {
        const cudnnHandle_t handle = object.get<cudnnHandle_t>(CUDNN_ATTR_DEVICEPROP_HANDLE, nullptr);
        if (!handle_of("cudnnBackendFinalize(device properties)", handle))
            return fail(CUDNN_STATUS_NOT_INITIALIZED, "device properties of no device");
        text = SIMULATED;
    }
    Json json;
    if (!json_read(text, json) || json.kind != Json::OBJECT) return fail(CUDNN_STATUS_BAD_PARAM, "!IsObject()");
    if (!json.member("maxGridSize", Json::LIST) || !json.member("maxBlockSize", Json::LIST) ||
        !json.member("deviceName", Json::TEXT))
        return fail(CUDNN_STATUS_BAD_PARAM, "device properties: maxGridSize, maxBlockSize or deviceName is missing");
    for (const char *field : fields)
        if (!json.member(field, Json::NUMBER)) return fail(CUDNN_STATUS_BAD_PARAM, "!HasMember(\"%s\")", field);
    object.device =
        std::make_shared<Device>(Device{static_cast<int>(json.member("deviceVer", Json::NUMBER)->number), text});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_heuristics(Object &object)
{
    static const char call[] = "cudnnBackendFinalize(engine heuristics)";
    const Object *graph = object.link(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    if (!graph) return fail(CUDNN_STATUS_BAD_PARAM, "nullptr == opset_ptr");
    const int mode = object.get<int>(CUDNN_ATTR_ENGINEHEUR_MODE, -1);
    if (mode != CUDNN_HEUR_MODE_A && mode != CUDNN_HEUR_MODE_B && mode != CUDNN_HEUR_MODE_FALLBACK)
        machine::violation(call, "CUDNN_ATTR_ENGINEHEUR_MODE is %d (-1: not set), expected A, B or FALLBACK", mode);
    if (!object.link(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP))
        machine::violation(call, "CUDNN_ATTR_ENGINEHEUR_DEVICEPROP isn't set: heuristics for which device?");
    object.problem = graph->problem;
    object.device = object.link(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)->device;
    object.engines = answer(*object.problem, static_cast<cudnnBackendHeurMode_t>(mode));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize_engine(Object &object)
{
    const Object *graph = object.link(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    if (!graph) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nullptr == opset_ptr");
    object.engine = object.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, -1);
    if (!object.link(CUDNN_ATTR_ENGINE_DEVICEPROP))
        machine::violation("cudnnBackendFinalize(engine)", "CUDNN_ATTR_ENGINE_DEVICEPROP isn't set");
    object.problem = graph->problem;
    object.device = object.link(CUDNN_ATTR_ENGINE_DEVICEPROP)->device;
    if (!engine_supports(object.engine, *object.problem))
        return fail(CUDNN_STATUS_NOT_SUPPORTED, "no engine %lld for this graph", static_cast<long long>(object.engine));
    return CUDNN_STATUS_SUCCESS;
}

std::string write_plan(const Problem &problem, const Device &device, int64_t engine)
{
    return "{\"cudnnVersion\":" + std::to_string(CUDNN_VERSION) + ",\"schemaVersion\":" + std::to_string(SCHEMA) +
           ",\"operationGraph\":" + problem.text + ",\"GPUProfile\":" + device.text +
           ",\"engine\":{\"engineId\":" + std::to_string(engine) + ",\"smVersion\":" + std::to_string(device.version) +
           ",\"knobChoices\":{}}}";
}

cudnnStatus_t make_plan(Object &object, const std::shared_ptr<const Problem> &problem, const Device &device,
                        int64_t engine)
{
    if (!engine_supports(engine, *problem) || engine == UNFINISHABLE)
        return fail(CUDNN_STATUS_NOT_SUPPORTED, "engine %lld makes no plan", static_cast<long long>(engine));
    object.plan = std::make_shared<Plan>(
        Plan{problem, engine, workspace_of(engine, *problem), write_plan(*problem, device, engine)});
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t plan_from_text(Object &object, const std::string &text)
{
    const Object *device = object.link(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    if (!device)
        machine::violation("cudnnBackendFinalize(execution plan)", "CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP isn't set");
    Json json;
    if (!json_read(text, json) || json.kind != Json::OBJECT) return fail(CUDNN_STATUS_BAD_PARAM, "!d.IsObject()");
    const Json *version = json.member("cudnnVersion", Json::NUMBER),
               *schema = json.member("schemaVersion", Json::NUMBER),
               *graph = json.member("operationGraph", Json::OBJECT), *engine = json.member("engine", Json::OBJECT),
               *profile = json.member("GPUProfile", Json::OBJECT);
    if (!version || !schema || !graph || !engine || !profile || !engine->member("engineId", Json::NUMBER) ||
        !profile->member("deviceVer", Json::NUMBER))
        return fail(CUDNN_STATUS_BAD_PARAM, "!json_object.HasMember(key)");
    if (version->number != CUDNN_VERSION)
        return fail(CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH, "the plan is of cuDNN %.0f", version->number);
    if (schema->number != SCHEMA)
        return fail(CUDNN_STATUS_SERIALIZATION_VERSION_MISMATCH, "the plan is of schema %.0f", schema->number);
    std::shared_ptr<const Problem> problem;
    const cudnnStatus_t status = read_problem("cudnnBackendFinalize(execution plan)", *graph, problem);
    if (status != CUDNN_STATUS_SUCCESS) return status;
    if (static_cast<int>(profile->member("deviceVer", Json::NUMBER)->number) != device->device->version)
        return fail(CUDNN_STATUS_NOT_SUPPORTED_ARCH_MISMATCH, "the plan is for another device");
    return make_plan(object, problem, *device->device,
                     static_cast<int64_t>(engine->member("engineId", Json::NUMBER)->number));
}

cudnnStatus_t finalize_plan(Object &object)
{
    const auto text = object.all<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    if (!text.empty()) return plan_from_text(object, std::string(text.begin(), text.end()));
    const Object *config = object.link(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (!config) return fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "execution plan: no engine configuration");
    return make_plan(object, config->problem, *config->device, config->engine);
}

cudnnStatus_t finalize_pack(const Object &object)
{
    static const char call[] = "cudnnBackendFinalize(variant pack)";
    const auto uids = object.all<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto pointers = object.all<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (uids.size() != pointers.size()) return fail(CUDNN_STATUS_BAD_PARAM, "ptrs_count != uids_count");
    if (std::set<int64_t>(uids.begin(), uids.end()).size() != uids.size())
        machine::violation(call, "a unique id is named twice");
    return CUDNN_STATUS_SUCCESS;
}

// --- reading ---

// Makes a descriptor of the caller's mean a configuration, or an engine.
cudnnStatus_t give(const Object &from, void *pointer, cudnnBackendDescriptorType_t type, int64_t engine)
{
    static const char call[] = "cudnnBackendGetAttribute";
    const Link to = object_of(call, pointer);
    if (!to) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "a descriptor to be filled is NULL");
    if (to->type != type)
        machine::violation(call, "a %s descriptor is to be filled with a %s", type_name(to->type), type_name(type));
    to->problem = from.problem;
    to->device = from.device;
    to->engine = engine;
    to->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_results(const Object &object, int64_t room, int64_t *count, void *values)
{
    const int64_t found = static_cast<int64_t>(object.engines.size());
    if (room == 0) {
        if (count) *count = found + COUNTED_TOO_MANY;
        return CUDNN_STATUS_SUCCESS;
    }
    void **pointers = static_cast<void **>(values);
    const int64_t filled = std::min(room, found);
    for (int64_t i = 0; i < filled; i++) {
        const cudnnStatus_t status =
            give(object, pointers[i], CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, object.engines[static_cast<size_t>(i)]);
        if (status != CUDNN_STATUS_SUCCESS) return status;
    }
    if (count) *count = filled;
    return CUDNN_STATUS_SUCCESS;
}

// As much of `from` as there is room for; *count is how many there are.
template <typename T> cudnnStatus_t copy_out(const T *from, size_t size, int64_t room, int64_t *count, void *values)
{
    if (count) *count = static_cast<int64_t>(size);
    const size_t copied = std::min(size, static_cast<size_t>(room));
    if (copied > 0) std::memcpy(values, from, copied * sizeof(T));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get_attribute(const Object &object, const Attribute &attribute, int64_t room, int64_t *count,
                            void *values)
{
    switch (attribute.attribute) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        return get_results(object, room, count, values);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        if (count) *count = 1;
        return room < 1 ? CUDNN_STATUS_SUCCESS
                        : give(object, *static_cast<void **>(values), CUDNN_BACKEND_ENGINE_DESCRIPTOR, object.engine);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return copy_out(&object.engine, 1, room, count, values);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: {
        const auto notes = notes_of(object.engine);
        return copy_out(notes.data(), notes.size(), room, count, values);
    }
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: {
        const int64_t workspace = static_cast<int64_t>(object.plan->workspace);
        return copy_out(&workspace, 1, room, count, values);
    }
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION:
        return copy_out(object.plan->text.data(), object.plan->text.size(), room, count, values);
    case CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION:
        return copy_out(object.device->text.data(), object.device->text.size(), room, count, values);
    default: {
        const auto found = object.values.find(attribute.attribute);
        if (found == object.values.end() || attribute.type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
            machine::violation("cudnnBackendGetAttribute", "reading %s isn't simulated, or it wasn't set",
                               attribute.name);
        const size_t size = size_of(attribute.type), all = static_cast<size_t>(found->second.count);
        if (count) *count = found->second.count;
        const size_t copied = std::min(all, static_cast<size_t>(room)) * size;
        if (copied > 0) std::memcpy(values, found->second.bytes.data(), copied);
        return CUDNN_STATUS_SUCCESS;
    }
    }
}

} // namespace

bool engine_supports(int64_t engine, const Problem &problem)
{
    if (!problem.supported) return false;
    const bool plain = is_plain(problem);
    switch (engine) {
    case DIRECT:
    case LOWERED:
    case TENSOR_CORE:
    case UNFINISHABLE:
        return plain;
    case SHUFFLED:
        return plain && !is_forward(problem);
    case COMPILED:
        return !plain;
    case HALF_SUMS:
        return plain && is_half(input_type(problem));
    case DOWN_CONVERTING:
        return plain && !is_half(input_type(problem));
    case WINOGRAD:
        return plain && is_forward(problem) && !is_half(input_type(problem));
    default:
        return false;
    }
}

std::vector<cudnnBackendNumericalNote_t> notes_of(int64_t engine)
{
    switch (engine) {
    case TENSOR_CORE:
        return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
    case SHUFFLED:
        return {CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    case HALF_SUMS:
        return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION};
    case DOWN_CONVERTING:
        return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS};
    case WINOGRAD:
        return {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13};
    default:
        return {};
    }
}

cudnnStatus_t finalize_engine_part(Object &object)
{
    switch (object.type) {
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
        return finalize_device(object);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return finalize_heuristics(object);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        return finalize_engine(object);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return finalize_plan(object);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return finalize_pack(object);
    default:
        machine::violation("cudnnBackendFinalize(engine configuration)",
                           "configurations that don't come from heuristics aren't simulated");
    }
}

} // namespace cudnn

using namespace cudnn;

extern "C" cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                                  cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                                  int64_t room, int64_t *count, void *values)
{
    static const char call[] = "cudnnBackendGetAttribute";
    const Link object = object_of(call, descriptor);
    if (machine::fails(call)) return fail(CUDNN_STATUS_INTERNAL_ERROR, "%s was made to fail", call);
    if (!object) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "nullptr == descriptor");
    if (!object->finalized) return fail(CUDNN_STATUS_NOT_INITIALIZED, "%s isn't finalized", type_name(object->type));
    const Attribute *attribute = attribute_of(object->type, name);
    if (!attribute) return fail(CUDNN_STATUS_BAD_PARAM, "a %s has no attribute %d", type_name(object->type), name);
    if (attribute->type != type)
        return fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "%s is of type %d", attribute->name, attribute->type);
    if (room < 0 || (room > 0 && !values)) machine::violation(call, "%s is read to NULL", attribute->name);
    return get_attribute(*object, *attribute, room, count, values);
}
