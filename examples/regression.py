"""Regression: weight from height, rent from five facts of a flat, diabetes from ten of a patient.

The output is the identity, the loss the mean squared error. Inputs and targets are standardized,
since a step of the optimizer suits numbers of about 1; with one unit and no hidden layer it is
linear regression, and must find the line of least squares. With another loss the same network finds
quantiles.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from fastnn import Adam, Dense, Dropout, EarlyStopping, Network
from fastnn.data import split, standardize
from fastnn.losses import Quantile
from fastnn.schedules import Cosine, OneCycle


def simple(quick: bool, ax: plt.Axes) -> None:
    rng = np.random.default_rng(0)
    height = rng.normal(170, 9, (200, 1))  # cm
    weight = 0.9 * height - 88 + rng.normal(0, 6, (200, 1))  # kg
    X, x_scaler = standardize(height)
    y, y_scaler = standardize(weight)
    epochs = 30 if quick else 60
    net = Network([1, 1], optimizer=Adam(Cosine(0.1, epochs)), seed=0)
    net.fit(X, y, epochs=epochs)
    slope, intercept = net.weights[0][0].item(), net.weights[0][1].item()
    exact = LinearRegression().fit(X, y)
    print(f"standardized weight = {slope:.3f} height + {intercept:.3f};", end=" ")
    print(f"least squares: {exact.coef_.item():.3f} height + {exact.intercept_.item():.3f}")
    assert abs(slope - exact.coef_.item()) < 0.02

    grid = np.array([[145.0], [195.0]])
    line = y_scaler.inverse_transform(net.predict(x_scaler.transform(grid)))
    ax.scatter(height, weight, s=8)
    ax.plot(grid, line, color="tab:orange", label="mean")

    quantiles = Network(
        [1, 3], loss=Quantile([0.1, 0.5, 0.9]), optimizer=Adam(Cosine(0.1, epochs)), seed=0
    )
    quantiles.fit(X, y, epochs=epochs)
    low, middle, high = y_scaler.inverse_transform(quantiles.predict(x_scaler.transform(grid))).T
    ax.plot(grid, low, "--", color="tab:green", label="one in ten is below, one above")
    ax.plot(grid, high, "--", color="tab:green")
    ax.plot(grid, middle, ":", color="tab:green", label="median")
    said = quantiles.predict(X)
    inside = np.mean((said[:, :1] < y) & (y < said[:, 2:]))
    print(f"{inside:.0%} of the weights are between the quantiles 0.1 and 0.9")
    assert 0.7 < inside < 0.9
    ax.legend()
    ax.set(xlabel="height, cm", ylabel="weight, kg", title="weight from height")


def rent(quick: bool, ax: plt.Axes) -> None:
    """Made-up flats: what a square metre costs depends on where, how old and how high it is."""
    rng = np.random.default_rng(0)
    n = 1200
    area, age, floor = rng.gamma(9, 8, n), rng.uniform(0, 60, n), rng.integers(0, 12, n)
    distance, balcony = rng.gamma(2, 4, n), rng.integers(0, 2, n)  # km to the centre
    each = 9 + 10 * np.exp(-distance / 6) + 0.25 * floor - 0.004 * age * (60 - age)
    paid = (area * each + 60 * balcony) * rng.lognormal(0, 0.08, n)
    facts = np.column_stack([area, age, floor, distance, balcony])

    X_train, X_test, y_train, y_test = split(facts, paid[:, np.newaxis], 0.25)
    X_train, X_test, _ = standardize(X_train, X_test)
    y_train, y_test, scaler = standardize(y_train, y_test)
    epochs = 20 if quick else 80
    optimizer = Adam(OneCycle(0.01, epochs))
    net = Network([5, Dense(32, "tanh", l2=1e-4), 1], optimizer=optimizer, seed=0)
    net.fit(X_train, y_train, epochs=epochs)
    linear = LinearRegression().fit(X_train, y_train)
    r2 = {}
    for name, said in (("fastnn", net.predict(X_test)), ("linear", linear.predict(X_test))):
        true, said = (scaler.inverse_transform(values) for values in (y_test, said))
        r2[name] = r2_score(true, said)
        ax.scatter(true, said, s=8, label=f"{name}: R² = {r2[name]:.2f}")
    print(f"rent: R² {r2['fastnn']:.3f} (linear {r2['linear']:.3f})")
    assert r2["fastnn"] > r2["linear"] + 0.02
    ax.axline((1000, 1000), slope=1, color="grey", linewidth=0.8)
    ax.set(xlabel="true rent", ylabel="predicted", title="rent from five facts, test rows")
    ax.legend()


def diabetes(quick: bool, curve: plt.Axes, ax: plt.Axes) -> None:
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = split(X, y, 0.25, seed=1)
    X_train, X_test, _ = standardize(X_train, X_test)
    y_train, y_test, scaler = standardize(y_train[:, np.newaxis], y_test[:, np.newaxis])
    net = Network(
        [10, Dense(32, "relu", l2=1e-3), Dropout(0.2), Dense(16, "relu", l2=1e-3), 1],
        optimizer=Adam(0.003),
        seed=0,
    )
    history = net.fit(
        X_train, y_train, epochs=40 if quick else 200, validation_split=0.2,
        callbacks=[EarlyStopping(patience=15, restore_best_weights=True)],
    )  # fmt: skip
    said = scaler.inverse_transform(net.predict(X_test))
    true = scaler.inverse_transform(y_test)
    error = np.abs(said - true).mean()
    linear = LinearRegression().fit(X_train, y_train).score(X_test, y_test)
    r2 = r2_score(true, said)
    print(f"diabetes: R² {r2:.3f} (linear {linear:.3f}), mean absolute error {error:.1f}")
    assert r2 > 0.25
    curve.plot(history["loss"], label="training")
    curve.plot(history["val_loss"], "--", label="validation")
    curve.set(xlabel="epoch", ylabel="mean squared error", title="diabetes from ten facts")
    curve.legend()
    ax.scatter(true, said, s=8)
    ax.axline((150, 150), slope=1, color="grey", linewidth=0.8)
    ax.set(xlabel="true progress", ylabel="predicted", title=f"its test rows, R² = {r2:.2f}")


def main() -> None:
    args = options(__doc__)
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    simple(args.quick, axes[0, 0])
    rent(args.quick, axes[0, 1])
    diabetes(args.quick, *axes[1])
    save(figure, args.output)


if __name__ == "__main__":
    main()
