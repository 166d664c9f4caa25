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
    for (size_t i = 0; i < misuse_count(); i++) {
        const Misuse *misuse = misuse_at(i);
        const int found = misuse_answer(misuse, device);
        if (misuse->crashes) /* not always: anything but a success will do */
            ck_assert_msg(found != CUDNN_STATUS_SUCCESS, "%s: passes, expected a crash", misuse->name);
        else
            ck_assert_msg(found == (int)misuse->status, "%s: %s, expected %s", misuse->name, name_of(found),
                          cudnnGetErrorString(misuse->status));
    }
}
END_TEST

SUITE_MAIN("real cudnn misuse", real_library_answers)
