"""A little of everything that the core does, for valgrind, under which a test suite takes hours."""

import numpy as np

import fastnn

rng = np.random.default_rng(0)
X = rng.normal(size=(37, 7))
for dtype in ("float32", "float64"):
    for loss, y in {
        "cross_entropy": rng.integers(3, size=37),
        "mse": rng.normal(size=(37, 3)),
    }.items():
        net = fastnn.Network(
            [
                7,
                fastnn.Dropout(0.2),
                fastnn.Dense(33, "gelu", l1=1e-3),
                fastnn.Dense(20, "tanh"),
                3,
            ],
            loss=loss,
            dtype=dtype,
            optimizer=fastnn.Adam(clip_norm=1.0),
            averaging=fastnn.EMA(0.9),
            seed=0,
        )
        net.fit(X, y, 2, 10)
        net.predict(X)
        net.predict(X[:1])
        net.evaluate(X, y)
        net.gradients(X, y)
print("valgrind: no finding")
