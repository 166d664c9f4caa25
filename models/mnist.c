/* The MNIST soma: a small convolutional net, 1,074,190 parameters and the gate's keys. Layers, names and shapes are the
 * reference network's ("FFNN"), so that weights can be exchanged; what ours does differently: images of any size are
 * pooled to 28x28, the remote path has the local path's activations, the gate's keys are trained, and the losses below.
 *
 *   loss = local_target_loss + remote_target_loss + distillation_loss + imitation_loss  (without peers
 * local_target_loss alone)
 *
 * distillation: the local context learns to be the remote one; imitation: on rows without a label, the local target
 * learns the remote target's softmax. */
#include "models/soma.h"

enum { CLASSES = 10, KEY_DIM = 100 };

/* [batch, 1, rows, columns] in 0..1 -> [batch, 320] */
static Value transform(Graph *g, Value image, double drop)
{
    Value x = normalize(g, adaptive_avg_pool2d(g, image, 28, 28), 0.1307, 0.3081);
    x = relu(g, max_pool2d(g, conv2d(g, x, "transform_conv1", .out = 10, .kernel = 5), 2));
    x = relu(g, max_pool2d(g, dropout2d(g, conv2d(g, x, "transform_conv2", .out = 20, .kernel = 5), drop), 2));
    return flatten(g, x, 1);
}

/* [batch, 320] -> [batch, 512]; no activation */
static Value local_context(Graph *g, Value x)
{
    return linear(g, linear(g, x, "context_layer1", .out = 256), "context_layer2", .out = SOMA_NETWORK_DIM);
}

/* Weighs the peers that answered by a softmax over query . key, and sums: [peers, batch, 512] -> [batch, 512] */
static Value remote_context(Graph *g, Value x, Value answers, Value arrived, int peers)
{
    Value query = linear(g, x, "router.gate.projection", .out = KEY_DIM);
    Value scores = linear(g, query, "router.keys", .out = peers, .no_bias = true);
    return weighted_sum(g, softmax(g, scores, arrived), answers);
}

/* [batch, 320], [batch, 512] -> [batch, 512] */
static Value hidden(Graph *g, Value x, Value context)
{
    Value y = relu(g, linear(g, concat2(g, x, context), "hidden_layer1", .out = SOMA_NETWORK_DIM));
    return relu(g, linear(g, y, "hidden_layer2", .out = SOMA_NETWORK_DIM));
}

/* [batch, 512] -> logits [batch, 10]; no activation */
static Value target(Graph *g, Value x)
{
    return linear(g, linear(g, x, "target_layer1", .out = 256), "target_layer2", .out = CLASSES);
}

static SomaValues declare(Graph *g, const SomaConfig *c)
{
    SomaValues v = {VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE,
                    VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE, VALUE_NONE};
    v.input = graph_input(g, "image", graph_real(g), shape_of(c->batch, 1, c->rows, c->columns));
    Value x = transform(g, v.input, c->dropout);
    Value context = local_context(g, c->distill_detach ? detach(g, x) : x);
    /* The local loss doesn't train the context, but the gradient that a caller asks for goes all the way. */
    v.local_hidden = hidden(g, x, c->answering ? context : detach(g, context));
    if (c->answering) return v;

    v.labels = graph_input(g, "labels", DTYPE_I32, shape_of(c->batch));
    v.local_target = target(g, v.local_hidden);
    v.loss = v.local_target_loss = cross_entropy(g, v.local_target, v.labels);
    if (c->peers == 0) return v;

    v.answers = graph_input(g, "answers", graph_real(g), shape_of(c->peers, c->batch, SOMA_NETWORK_DIM));
    v.arrived = graph_input(g, "arrived", DTYPE_U8, shape_of(c->peers));
    Value remote = remote_context(g, x, v.answers, v.arrived, c->peers);
    v.remote_target = target(g, hidden(g, x, remote));
    v.remote_target_loss = cross_entropy(g, v.remote_target, v.labels);
    v.distillation_loss = mean_squared_error(g, context, detach(g, remote));
    v.loss = add(g, add(g, v.loss, v.remote_target_loss), v.distillation_loss);
    if (!c->distill_targets) return v;
    v.imitation_loss = soft_cross_entropy(g, v.local_target, v.remote_target, v.labels);
    v.loss = add(g, v.loss, v.imitation_loss);
    return v;
}

const Soma soma_mnist = {"mnist", CLASSES, 28, 28, declare};
