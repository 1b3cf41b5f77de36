"""Why deep networks of sigmoids hardly learn, and what cured it.

The slope of the sigmoid is at most 0.25 and multiplies at each layer on the way back, so the first
layers get next to nothing. ReLU has slope 1 where it is not 0, and He's initialization keeps the
spread of the signal the same from layer to layer.
"""

from __future__ import annotations

from common import options, plt, save
from sklearn.datasets import load_digits

from fastnn import Adam, Dense, Network, plotting

DEPTH = 10
CONTENDERS = {  # activation, initialization
    "sigmoid, normal": ("sigmoid", "normal"),
    "sigmoid, Xavier": ("sigmoid", "xavier_normal"),
    "tanh, Xavier": ("tanh", "xavier_normal"),
    "ReLU, normal": ("relu", "normal"),
    "ReLU, He": ("relu", "he_normal"),
}


def network(activation: str, weight_init: str) -> Network:
    hidden = [Dense(50, activation, weight_init=weight_init) for _ in range(DEPTH)]
    return Network(
        [64, *hidden, 10], loss="cross_entropy", optimizer=Adam(0.001), dtype="float64", seed=0
    )


def main() -> None:
    args = options(__doc__)
    X, y = load_digits(return_X_y=True)
    X = (X - X.mean()) / X.std()
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    diagnoses, first_to_last, accuracy = {}, {}, {}
    for name, (activation, weight_init) in CONTENDERS.items():
        net = network(activation, weight_init)
        diagnoses[name] = net.diagnose(X, y)
        norms = [layer.gradient_norm for layer in diagnoses[name]]
        history = net.fit(X, y, epochs=5 if args.quick else 20)
        first_to_last[name], accuracy[name] = norms[0] / norms[-1], history["accuracy"][-1]
        print(f"{name:16} gradient of the first layer to the last: {first_to_last[name]:8.1e},"
              f" accuracy after {len(history)} epochs: {accuracy[name]:.1%}")  # fmt: skip
        right.plot(range(1, len(history) + 1), history["accuracy"], label=name)
    print("\nwhat goes through the layers of the sigmoids drawn by Xavier's rule, before training")
    print(diagnoses["sigmoid, Xavier"])
    plotting.gradient_norms(diagnoses, left).set_title("before training")
    right.set(xlabel="epoch", ylabel="training accuracy", title="and what comes of it", ylim=(0, 1))
    right.locator_params(axis="x", integer=True)
    save(figure, args.output)
    assert first_to_last["sigmoid, Xavier"] < 1e-3
    assert first_to_last["ReLU, He"] > 0.1
    assert accuracy["ReLU, He"] > 0.9 > 0.5 > accuracy["sigmoid, Xavier"]


if __name__ == "__main__":
    main()
