#include "neuron/ask.h"

#include <string.h>

#include "base/log.h"

size_t network_ask(void *context, const float *images, int64_t count, float *answers, uint8_t *arrived)
{
    const NetworkQuestion *question = context;
    DendriteCall *call = NULL;
    Error error = {0};
    Tensor image =
        tensor_view(DTYPE_F32, shape_of(count, 1, 1, question->rows, question->columns), (void *)(uintptr_t)images);
    memset(arrived, 0, dendrite_count(question->dendrite));
    if (dendrite_forward(question->dendrite, &image, MODALITY_IMAGE, &call, &error) != STATUS_OK) {
        log_warning("can't ask the peers: %s", error.message);
        return 0;
    }
    size_t came = dendrite_wait(call, answers, arrived);
    dendrite_release(call);
    return came;
}
