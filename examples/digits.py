"""Handwritten digits of 8 by 8 pixels: what a first network for images needs.

Data: scale, split with equal shares of the classes. Then layers, a schedule with warm-up, early
stopping on validation rows, and a look at what is still confused.
"""

from __future__ import annotations

from common import options, plt, save
from sklearn.datasets import load_digits

import fastnn
from fastnn import Adam, EarlyStopping, Network, plotting
from fastnn.data import normalize, split
from fastnn.schedules import Cosine, WarmUp


def main() -> None:
    args = options(__doc__)
    epochs = 15 if args.quick else 60
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = split(X, y, 0.25, stratify=True)
    X_train, X_test, _ = normalize(X_train, X_test)

    net = Network([64, 100, 50, 10], loss="cross_entropy", seed=0)
    found = fastnn.find_learning_rate(net, X_train, y_train)
    print(f"the loss falls fastest at a learning rate of {found.suggestion:.2g}")
    net = Network(
        [64, 100, 50, 10],
        loss="cross_entropy",
        optimizer=Adam(WarmUp(Cosine(0.003, epochs), 3)),
        seed=0,
    )
    print(net.summary())
    stopping = EarlyStopping("val_loss", patience=10, restore_best_weights=True)
    history = net.fit(
        X_train, y_train, epochs=epochs, validation_split=0.2,
        metrics=["f1_macro"], callbacks=[stopping],
    )  # fmt: skip
    figures = net.evaluate(X_test, y_test)
    print(f"{len(history)} epochs, the best was {stopping.best_epoch + 1}")
    f1 = history["val_f1_macro"][stopping.best_epoch or 0]
    print(
        f"F1 on the validation rows {f1:.3f}, accuracy on the test rows {figures['accuracy']:.2%}"
    )
    assert figures["accuracy"] > 0.94

    said = net.predict(X_test).argmax(axis=1)
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.8), layout="constrained")
    plotting.learning_rates(found, axes[0])
    plotting.learning_curve(history, axes[1])
    plotting.confusion_matrix(y_test, said, ax=axes[2])
    save(figure, args.output)


if __name__ == "__main__":
    main()
