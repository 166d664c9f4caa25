/* The stand-in refuses what the real cuDNN refuses (cuda_real/test_cudnn_misuse.c runs the same table), and ends the
 * process where the real one crashes, or lets pass what can't mean anything. */
#include "backend/cuda/devices.h"
#include "cuda_sim/cudnn_misuse.h"
#include "cuda_sim/library_test.h"

typedef struct Case {
    const Misuse *misuse;
    cudnnBackendDescriptor_t device;
} Case;

static void run(void *argument)
{
    const Case *one = argument;
    one->misuse->run(one->device, one->misuse->variant);
}

START_TEST(stand_in_answers)
{
    cudnnBackendDescriptor_t device = misuse_device(device_find("h100")->properties);
    for (size_t i = 0; i < misuse_count(); i++) {
        Case one = {misuse_at(i), device};
        if (one.misuse->violation != NULL) {
            check_dies(run, &one, one.misuse->violation);
            continue;
        }
        const int found = misuse_answer(one.misuse, device);
        ck_assert_msg(found == (int)one.misuse->status, "%s: %d, expected %s", one.misuse->name, found,
                      cudnnGetErrorString(one.misuse->status));
    }
}
END_TEST

START_TEST(what_crashes_is_a_violation)
{
    for (size_t i = 0; i < misuse_count(); i++)
        ck_assert_msg(!misuse_at(i)->crashes || misuse_at(i)->violation != NULL, "%s", misuse_at(i)->name);
}
END_TEST

SUITE_MAIN("cudnn misuse", stand_in_answers, what_crashes_is_a_violation)
