/* What the real cuDNN answers to misuse, without a device: the stand-in's test (cuda_sim/test_cudnn_misuse.c) runs the
 * same table. A status that differs tells that another version of the library draws its line elsewhere: the table, and
 * the stand-in, are to follow. */
#include "backend/cuda/devices.h"
#include "cuda_sim/cudnn_misuse.h"
#include "support/suite.h"

static const char *name_of(int answer)
{
    return answer == MISUSE_CRASHED ? "a crash" : cudnnGetErrorString((cudnnStatus_t)answer);
}

START_TEST(real_library_answers)
{
    cudnnBackendDescriptor_t device = misuse_device(device_find("h100")->properties);
    for (size_t i = 0; i < misuse_count; i++) {
        const int found = misuse_answer(&misuses[i], device);
        if (misuses[i].crashes) /* not always: anything but a success will do */
            ck_assert_msg(found != CUDNN_STATUS_SUCCESS, "%s: passes, expected a crash", misuses[i].name);
        else
            ck_assert_msg(found == (int)misuses[i].status, "%s: %s, expected %s", misuses[i].name, name_of(found),
                          cudnnGetErrorString(misuses[i].status));
    }
}
END_TEST

SUITE_MAIN("real cudnn misuse", real_library_answers)
