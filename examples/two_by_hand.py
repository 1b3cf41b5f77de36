"""A network of three layers of two sigmoid units, computed by hand and by the library.

For the inputs (1, -1) and (0, 0), unit by unit as on paper.
"""

from __future__ import annotations

import math

import numpy as np
from common import options, plt, save

from fastnn import Network

LAYERS = [  # of each unit: weights of the two inputs, and bias
    [((1, -2), 1), ((-1, 1), 0)],
    [((2, -1), 0), ((-2, -1), 0)],
    [((3, -1), -2), ((-1, 4), 2)],
]
KNOWN = {
    (1, -1): [(0.98, 0.12), (0.86, 0.11), (0.62, 0.83)],
    (0, 0): [(0.73, 0.50), (0.72, 0.12), (0.51, 0.85)],
}


def by_hand(x: tuple[float, float]) -> list[tuple[float, float]]:
    outputs = []
    for layer in LAYERS:
        (w1, b1), (w2, b2) = layer
        z1 = x[0] * w1[0] + x[1] * w1[1] + b1
        z2 = x[0] * w2[0] + x[1] * w2[1] + b2
        x = 1 / (1 + math.exp(-z1)), 1 / (1 + math.exp(-z2))
        outputs.append(x)
    return outputs


def network(depth: int) -> Network:
    """The first layers of the network, so that their outputs can be seen."""
    net = Network([2] * (depth + 1), activation="sigmoid", output_activation="sigmoid")
    # W has a column for each unit: x @ W + b.
    net.set_weights(
        [
            (np.array([w for w, _ in layer]).T, np.array([b for _, b in layer]))
            for layer in LAYERS[:depth]
        ]
    )
    return net


def main() -> None:
    args = options(__doc__)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained", sharey=True)
    for (x, known), ax in zip(KNOWN.items(), axes, strict=True):
        hand = by_hand(x)
        library = [network(depth).predict([x])[0] for depth in (1, 2, 3)]
        print(f"input {x}\n  layer    by hand           fastnn")
        for number, (a, b) in enumerate(zip(hand, library, strict=True), start=1):
            print(f"  {number}        {a[0]:.4f}, {a[1]:.4f}    {b[0]:.4f}, {b[1]:.4f}")
        np.testing.assert_allclose(hand, known, atol=0.005)
        np.testing.assert_allclose(library, hand, rtol=1e-6)
        places = np.arange(1, 4)
        for unit in (0, 1):
            ax.bar(places + 0.2 * unit - 0.1, [row[unit] for row in library], 0.18,
                   label=f"unit {unit + 1}")  # fmt: skip
        ax.set(title=f"outputs for the input {x}", xlabel="layer", xticks=places, ylim=(0, 1))
    axes[0].legend(loc="upper center")
    save(figure, args.output)


if __name__ == "__main__":
    main()
