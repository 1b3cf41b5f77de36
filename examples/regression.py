"""Regression: weight from height, and the progress of diabetes from ten facts of a patient.

The output is the identity, the loss the mean squared error. Inputs and targets are standardized,
since a step of the optimizer suits numbers of about 1; with one unit and no hidden layer it is
linear regression, and must find the line of least squares.
"""

from __future__ import annotations

import numpy as np
from common import options, plt, save
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from fastnn import Adam, Dense, Dropout, EarlyStopping, Network
from fastnn.data import split, standardize
from fastnn.schedules import Cosine


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
    ax.plot(grid, line, color="tab:orange")
    ax.set(xlabel="height, cm", ylabel="weight, kg", title="one input")


def multiple(quick: bool, curve: plt.Axes, ax: plt.Axes) -> None:
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
    curve.set(xlabel="epoch", ylabel="mean squared error", title="ten inputs")
    curve.legend()
    ax.scatter(true, said, s=8)
    ax.axline((150, 150), slope=1, color="grey", linewidth=0.8)
    ax.set(xlabel="true progress", ylabel="predicted", title=f"test rows, R² = {r2:.2f}")


def main() -> None:
    args = options(__doc__)
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    simple(args.quick, axes[0])
    multiple(args.quick, axes[1], axes[2])
    save(figure, args.output)


if __name__ == "__main__":
    main()
