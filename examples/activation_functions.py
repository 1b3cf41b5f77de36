"""The activation functions and their slopes.

Without one, any depth is one linear map. A good one is not linear, keeps the signal through many
layers, and has no wide region of slope zero, where nothing can be learnt.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save

from fastnn import Dense, Network
from fastnn.activations import ACTIVATIONS


def value_and_slope(name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Let a network of one unit with weight 1 and bias 0 say both."""
    net = Network([1, Dense(1, name)], loss="mae", dtype="float64")
    net.set_weights([([[1.0]], [0.0])])
    h = net.predict(z[:, np.newaxis])[:, 0]
    # Of |h - t| with t far below, the derivative by the bias is the slope.
    slope = [net.gradients([[x]], [-1e3])[1][0][1][0] for x in z]
    return h, np.array(slope)


def main() -> None:
    args = options(__doc__)
    z = np.linspace(-5, 5, 101 if args.quick else 401)
    names = [name for name in ACTIVATIONS if name != "softmax"]
    figure, axes = plt.subplots(3, 4, figsize=(12, 7.5), layout="constrained")
    for name, ax in zip(names, axes.flat, strict=False):
        h, slope = value_and_slope(name, z)
        ax.plot(z, h, label="value")
        ax.plot(z, slope, "--", label="slope")
        ax.axhline(0, color="grey", linewidth=0.5)
        ax.set(title=name, ylim=(-2, 3))
        print(f"{name:11} slope from {slope.min():6.3f} to {slope.max():6.3f}")
        if name == "sigmoid":
            # It multiplies at each layer: the reason for vanishing gradients.
            assert abs(slope.max() - 0.25) < 1e-12
    axes.flat[0].legend()

    ax = axes.flat[-1]
    net = Network([3, Dense(3, "softmax")], loss="cross_entropy")
    net.set_weights([(np.eye(3), np.zeros(3))])
    z3 = np.array([0.3, 2.9, 1.0])
    p = net.predict(z3[np.newaxis])[0]
    print(f"softmax of {z3} is {p.round(3)}: their sum is {p.sum():.3f}, their order the same")
    np.testing.assert_allclose(p, [0.06, 0.82, 0.12], atol=0.005)
    ax.bar([str(value) for value in z3], p, color="tab:green")
    ax.set(title="softmax of three numbers", ylim=(0, 1))
    save(figure, args.output)


if __name__ == "__main__":
    main()
