/* See the header. The statuses in the tables are what cuDNN 9.19 answered. */
#include "cudnn_misuse.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "dnn_descriptors.h"
#include "support/child.h"

size_t misuse_count(void)
{
    return misuses_of_descriptors.count + misuses_of_graphs.count;
}

const Misuse *misuse_at(size_t index)
{
    const size_t first = misuses_of_descriptors.count;
    return index < first ? &misuses_of_descriptors.rows[index] : &misuses_of_graphs.rows[index - first];
}

Descriptor misuse_device(const char *json)
{
    Descriptor device = desc_make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    desc_set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    desc_finalize(device);
    ck_assert_int_eq(desc_refusal(), CUDNN_STATUS_SUCCESS);
    return device;
}

/* In memory that the child shares. */
typedef struct Answer {
    const Misuse *misuse;
    Descriptor device;
    int status;
} Answer;

static void answer(void *argument)
{
    Answer *shared = argument;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    shared->status = (int)shared->misuse->run(shared->device, shared->misuse->variant);
}

int misuse_answer(const Misuse *misuse, Descriptor device)
{
    int ended;
    Answer *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    *shared = (Answer){misuse, device, MISUSE_CRASHED};
    free(child_run(answer, shared, &ended)); /* a crash says much */
    const int status = shared->status;
    munmap(shared, sizeof *shared);
    return status;
}
