"""The MNIST soma's way from an image to its hidden representation, in plain loops over a checkpoint's tensors: layers
and names as the reference network has them. The truth that served answers are compared with."""


def convolve(planes, size, weight, bias):
    """Valid 5x5 convolution: planes [channels][size * size] -> [out][(size - 4) ** 2]."""
    out, channels, kernel, _ = weight.shape
    side, result = size - kernel + 1, []
    for o in range(out):
        plane = [bias.values[o]] * (side * side)
        for c in range(channels):
            source = planes[c]
            for ky in range(kernel):
                for kx in range(kernel):
                    w = weight.values[((o * channels + c) * kernel + ky) * kernel + kx]
                    for y in range(side):
                        row = (y + ky) * size + kx
                        for x in range(side):
                            plane[y * side + x] += w * source[row + x]
        result.append(plane)
    return result, side


def relu_of_max_pool(planes, size):
    """2x2, stride 2."""
    half = size // 2
    corners = (0, 1, size, size + 1)
    pooled = [
        [max(0.0, *(p[2 * y * size + 2 * x + c] for c in corners)) for y in range(half) for x in range(half)]
        for p in planes
    ]
    return pooled, half


def linear(x, tensors, name):
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    outs, ins = weight.shape
    rows = (weight.values[o * ins : (o + 1) * ins] for o in range(outs))
    return [sum(map(float.__mul__, row, x)) + b for row, b in zip(rows, bias.values)]


def relu(x):
    return [max(0.0, value) for value in x]


def hidden(image, tensors):
    """784 pixels in 0..1 -> 512 numbers, in evaluation mode."""
    planes, size = [[(pixel - 0.1307) / 0.3081 for pixel in image]], 28
    for layer in ("transform_conv1", "transform_conv2"):
        planes, size = convolve(planes, size, tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])
        planes, size = relu_of_max_pool(planes, size)
    x = [value for plane in planes for value in plane]
    context = linear(linear(x, tensors, "context_layer1"), tensors, "context_layer2")
    return relu(linear(relu(linear(x + context, tensors, "hidden_layer1")), tensors, "hidden_layer2"))
