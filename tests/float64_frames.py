"""What pieces of frames should look like, pixel by pixel in float64."""

import numpy as np

from common.inr.sampling import EDGE


def network_values(stack, row, x, y):
    """RGB (N, 3) of one network at network coordinates x, y (N,)."""
    h = np.stack([x, y], 1)
    for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        h = h @ weight[row].double().cpu().numpy().T + bias[row, :, 0].double().cpu().numpy()
        if layer < stack.architecture.depth:
            h = np.sin(stack.w0 * h)
    return h


def exact_samples(sampling, backgrounds, objects=()):
    """As :func:`common.inr.sampled.compose_samples`: (B, 3, height, width) float64."""
    out = np.full((sampling.count, sampling.height, sampling.width, 3), sampling.fill, np.float64)
    v, u = np.mgrid[0.5 : sampling.height, 0.5 : sampling.width]
    sight = np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
    for piece in range(len(sampling)):
        x, y, depth = sampling.maps[piece].cpu().numpy() @ sight
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = x / depth, y / depth
        shown = (depth > 1e-6) & _inside(x, y, sampling.clips[piece].tolist())
        x, y = x[shown], y[shown]
        height, width = sampling.coded[piece].tolist()
        colours = np.full((len(x), 3), sampling.fill)
        for part in backgrounds:
            for row in (part.frames == piece).nonzero()[:, 0].tolist():
                colours = network_values(part.stack, row, 2 * x / width - 1, 2 * y / height - 1) / 2 + 0.5
        own = [(part, row) for part in objects for row in (part.frames == piece).nonzero()[:, 0].tolist()]
        residual = np.zeros_like(colours)
        for part, row in sorted(own, key=_rank):
            x0, y0, x1, y1 = part.regions[row].tolist()
            mine = _inside(x, y, (x0, y0, x1, y1))
            inner = 2 * (x[mine] - x0) / (x1 - x0) - 1, 2 * (y[mine] - y0) / (y1 - y0) - 1
            residual[mine] = network_values(part.stack, row, *inner) * float(part.scales[row])
        image = out[int(sampling.images[piece])].reshape(-1, 3)
        image[shown] = colours + residual
    return out.transpose(0, 3, 1, 2)


def _inside(x, y, box):
    x0, y0, x1, y1 = box
    return (x >= x0 - EDGE) & (y >= y0 - EDGE) & (x < x1 - EDGE) & (y < y1 - EDGE)


def _rank(item):
    part, row = item
    x0, y0, x1, y1 = part.regions[row].tolist()
    return -(x1 - x0) * (y1 - y0), int(part.boxes[row])
