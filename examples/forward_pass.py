"""The forward pass of a three-layer network, step by step: products and sums of matrices.

Shapes decide what fits: (1, 2) by (2, 3) plus (1, 3) is (1, 3), and so on.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save

from fastnn import Network

X = np.array([[1.0, 2.0]])
WEIGHTS = [
    (np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]]), np.array([0.1, 0.2, 0.3])),
    (np.array([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]]), np.array([0.1, 0.2])),
    (np.array([[0.1, 0.3], [0.2, 0.4]]), np.array([0.1, 0.2])),
]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))  # the same, and never too large
    return e / e.sum(axis=1, keepdims=True)


def main() -> None:
    args = options(__doc__)
    one_layer = X @ np.array([[1, 3, 5], [2, 4, 6]]) + np.ones(3)
    print(f"(1, 2) through [[1, 3, 5], [2, 4, 6]] and a bias of 1: {one_layer[0]}")
    np.testing.assert_array_equal(one_layer, [[6, 12, 18]])

    h, outputs = X, [X]
    for number, (W, b) in enumerate(WEIGHTS, start=1):
        z = h @ W + b
        activation = softmax if number == len(WEIGHTS) else sigmoid
        shapes = f"{h.shape} @ {W.shape} + {(1, *b.shape)} = {z.shape}"
        h = activation(z)
        outputs.append(h)
        print(f"layer {number}: {shapes}")
        print(f"  z = {z.round(4)[0]}, {activation.__name__}(z) = {h.round(4)[0]}")

    net = Network([2, 3, 2, 2], activation="sigmoid", loss="cross_entropy", dtype="float64")
    net.set_weights(WEIGHTS)
    said = net.predict(X)
    print(f"fastnn: {said.round(4)[0]}")
    np.testing.assert_allclose(said, h, rtol=1e-12)

    figure, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    ax.axis("off")
    ax.set_title("what each unit puts out; the thicker a line, the larger the weight")
    names = ["input", "sigmoid", "sigmoid", "softmax"]
    for layer, (name, a) in enumerate(zip(names, outputs, strict=True)):
        ax.annotate(f"{name}\n{a.shape}", (layer, -1.7), ha="center", va="center")
    for layer, (W, b) in enumerate(WEIGHTS):
        shapes = f"@ {W.shape}\n+ {(1, *b.shape)}"
        ax.annotate(shapes, (layer + 0.5, -1.7), ha="center", va="center", color="grey")
    places = [[(layer, (a.size - 1) / 2 - unit) for unit in range(a.size)]
              for layer, a in enumerate(outputs)]  # fmt: skip
    for before, after, (W, _) in zip(places, places[1:], WEIGHTS, strict=False):
        for (i, j), w in np.ndenumerate(W):
            ends = zip(before[i], after[j], strict=True)
            ax.plot(*ends, color="grey", linewidth=4 * w, zorder=1)
    for row, values in zip(places, outputs, strict=True):
        for place, value in zip(row, values[0], strict=True):
            ax.scatter(*place, s=1500, color="white", edgecolors="black", zorder=2)
            ax.annotate(f"{value:.3f}", place, ha="center", va="center")
    ax.set(xlim=(-0.4, 3.4), ylim=(-2.1, 1.4))
    save(figure, args.output)


if __name__ == "__main__":
    main()
