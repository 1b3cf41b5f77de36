"""Perceptrons as gates: AND, OR and NAND with one, XOR with two layers of them.

A perceptron fires when x W + b > 0: a `Dense` layer of one unit with the activation "step". No
line separates the inputs for which XOR fires from the others, but XOR(x) = AND(NAND(x), OR(x)).
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save

from fastnn import Dense, Network

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {  # weights and bias
    "AND": ((0.5, 0.5), -0.7),
    "OR": ((0.5, 0.5), -0.2),
    "NAND": ((-0.5, -0.5), 0.7),
}
TRUTH = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0]}


def gate(name: str) -> Network:
    w, b = GATES[name]
    net = Network([2, Dense(1, "step")])
    net.set_weights([(np.reshape(w, (2, 1)), [b])])
    return net


def xor() -> Network:
    """NAND and OR beside each other, and AND of the two."""
    net = Network([2, Dense(2, "step"), Dense(1, "step")])
    (nand, nand_b), (either, or_b), (both, and_b) = (GATES[name] for name in ("NAND", "OR", "AND"))
    net.set_weights(
        [(np.column_stack([nand, either]), [nand_b, or_b]), (np.reshape(both, (2, 1)), [and_b])]
    )
    return net


def main() -> None:
    args = options(__doc__)
    nets = {name: gate(name) for name in GATES} | {"XOR": xor()}
    axis = np.linspace(-0.5, 1.5, 201)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained", sharey=True)
    print("x1 x2  " + "  ".join(f"{name:>4}" for name in nets))
    table = np.column_stack([net.predict(X)[:, 0] for net in nets.values()]).astype(int)
    for x, row in zip(X, table, strict=True):
        print(f"{x[0]:2} {x[1]:2}  " + "  ".join(f"{value:4}" for value in row))
    for (name, net), said, ax in zip(nets.items(), table.T, axes, strict=True):
        assert said.tolist() == TRUTH[name], name
        fires = net.predict(grid).reshape(201, 201)
        ax.contourf(axis, axis, fires, levels=[-0.5, 0.5, 1.5], colors=["#dde7f3", "#ffd9a8"])
        ax.scatter(*X.T, c=said, cmap="coolwarm", edgecolors="black", s=90)
        ax.set(title=name, xlabel="x1", ylabel="x2" if name == "AND" else "")
    save(figure, args.output)


if __name__ == "__main__":
    main()
