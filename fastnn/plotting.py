"""Pictures: learning curves and rates, confusion matrices, gradients, searches.

They need matplotlib: ``pip install "fastnn[plot]"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastnn._optional import needed
from fastnn._validation import known_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fastnn.diagnosis import Diagnosis
    from fastnn.history import History
    from fastnn.rate_finder import LearningRates
    from fastnn.search import Search

__all__ = ["confusion_matrix", "gradient_norms", "learning_curve", "learning_rates", "search"]


def learning_curve(
    history: History | Mapping[str, Sequence[float]], ax: Axes | None = None
) -> Axes:
    """Draw the loss over the epochs, and the accuracy, if there is one, on a second scale.

    Figures of the training rows are drawn in full lines, those of the validation rows dashed.

    Parameters
    ----------
    history : History or mapping of str to sequence of float
        What ``fit`` returned, or its ``history``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes of the loss; save the picture with ``ax.figure.savefig(path)``.

    Raises
    ------
    ImportError
        If matplotlib is not there.
    ValueError
        If the history has no epoch.
    """
    figures = history if isinstance(history, Mapping) else history.history
    if not figures.get("loss"):
        raise ValueError("history must have the figures of one epoch at least; got none")
    ax = _axes(ax)
    _draw(ax, figures, "loss", "tab:blue")
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)
    lines = ax.get_lines()
    if "accuracy" in figures:
        right = ax.twinx()
        _draw(right, figures, "accuracy", "tab:orange")
        right.set_ylim(top=1)
        lines = [*lines, *right.get_lines()]
    # Below the picture: there is no corner that the two curves leave free.
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return ax


def confusion_matrix(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    labels: Sequence[object] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class, a row, was taken for each class, a column.

    Parameters
    ----------
    y_true, y_pred : array_like of shape (n,)
        The right classes and the predicted ones, as integers from 0.
    labels : sequence, optional
        A name for each class; by default its number.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not there.
    TypeError
        If the classes are no integers.
    ValueError
        If `y_true` and `y_pred` do not have the same one-dimensional shape, are empty or hold a
        negative number, or if there are fewer labels than classes.
    """
    true, predicted = _classes("y_true", y_true), _classes("y_pred", y_pred)
    if true.shape != predicted.shape:
        raise ValueError(
            f"y_pred must have the shape of y_true, {true.shape}; got {predicted.shape}"
        )
    n_classes = int(max(true.max(), predicted.max())) + 1
    names = list(range(n_classes)) if labels is None else list(labels)
    if len(names) < n_classes:
        raise ValueError(f"labels must name all {n_classes} classes; got {len(names)} names")
    counts = np.bincount(true * len(names) + predicted, minlength=len(names) ** 2)
    counts = counts.reshape(len(names), len(names))
    # Of each class, so that a rare one is as easy to read as a common one.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    ax = _axes(ax)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        ax.text(column, row, str(count), ha="center", va="center", color=color, fontsize="small")
    ax.set_xticks(range(len(names)), labels=[str(name) for name in names])
    ax.set_yticks(range(len(names)), labels=[str(name) for name in names])
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


def learning_rates(found: LearningRates, ax: Axes | None = None) -> Axes:
    """Draw the losses that `fastnn.find_learning_rate` met, and the learning rate it suggests.

    Parameters
    ----------
    found : LearningRates
        What it returned.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not there.
    """
    ax = _axes(ax)
    ax.plot(found.rates, found.losses, color="tab:blue", alpha=0.3, label="loss of each batch")
    ax.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
    label = f"suggested: {found.suggestion:.2g}"
    ax.axvline(found.suggestion, color="tab:orange", linestyle="--", label=label)
    ax.set_xscale("log")
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss")
    ax.legend()
    return ax


def gradient_norms(diagnoses: Mapping[str, Diagnosis], ax: Axes | None = None) -> Axes:
    """Draw the norms of the gradients of each layer's weights, on a logarithmic scale.

    Where gradients vanish, as in deep networks of sigmoids, the line falls by a constant factor a
    layer from the last, on the right, to the first: the first layers learn that much more slowly.
    With relu and weights drawn by He's rule it stays level.

    Parameters
    ----------
    diagnoses : mapping of str to fastnn.diagnosis.Diagnosis
        What `fastnn.Network.diagnose` returned, under names for the legend.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not there.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> import fastnn, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(200, 16)), rng.integers(2, size=200)
    >>> nets = {
    ...     name: fastnn.Network(
    ...         [16, *[32] * 10, 1], activation=name, loss="binary_cross_entropy", seed=0
    ...     )
    ...     for name in ("sigmoid", "tanh", "relu")  # relu's weights are drawn by He's rule
    ... }
    >>> ax = fastnn.plotting.gradient_norms({n: net.diagnose(X, y) for n, net in nets.items()})
    """
    if not diagnoses:
        raise ValueError("diagnoses must have one diagnosis at least; got none")
    ax = _axes(ax)
    for name, diagnosis in diagnoses.items():
        layers = range(1, len(diagnosis) + 1)
        # A norm of 0 has no place on the scale.
        norms = [layer.gradient_norm or np.nan for layer in diagnosis]
        ax.plot(layers, norms, "o-", label=name)
    ax.set_yscale("log")
    ax.set_xlabel("dense layer")
    ax.set_ylabel("norm of the gradient of its weights")
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax


def search(found: Search, by: str = "trial", ax: Axes | None = None) -> Axes:
    """Draw the score of each trial of a search for hyperparameters.

    Parameters
    ----------
    found : fastnn.search.Search
        What `fastnn.search.hyperparameters` returned.
    by : str, default "trial"
        What to draw it over: the number of the trial, with the best score so far as a line; a
        hyperparameter; or "cost", with a line through the trials than which none is better in both.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is not there.
    ValueError
        If no trial is complete, or none has what is in `by`.
    """
    rows = found.rows
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        raise ValueError("found must have one complete trial at least; got none")
    names = [name for name in complete[0] if name not in ("state", "score")]
    known_name("by", by, names)
    ax = _axes(ax)
    values = [row[by] for row in rows]
    numbers = all(isinstance(value, (int, float)) for value in values)
    for state, marker, color in (("complete", "o", "tab:blue"), ("pruned", "x", "tab:gray")):
        of_state = [row for row in rows if row["state"] == state]
        if of_state:
            x = [row[by] if numbers else str(row[by]) for row in of_state]
            y = [row["score"] for row in of_state]
            ax.plot(x, y, marker, color=color, alpha=0.6, label=state)
    if by == "trial":
        better = np.minimum if found.rising_is_worse else np.maximum
        best = better.accumulate([row["score"] for row in complete])
        ax.step([row[by] for row in complete], best, where="post", color="tab:orange", label="best")
    elif by == "cost":
        front = sorted((row["cost"], row["score"]) for row in found.front)
        ax.plot(*zip(*front, strict=True), "o-", color="tab:orange", label="none better in both")
    elif by in found.logarithmic:
        ax.set_xscale("log")
    ax.set_xlabel(by)
    ax.set_ylabel(found.metric)
    if not numbers:
        ax.tick_params(axis="x", labelrotation=30)
    if len(ax.get_lines()) > 1:
        ax.legend()
    return ax


def _axes(ax: Axes | None) -> Axes:
    with needed("fastnn.plotting", "matplotlib", "plot"):
        from matplotlib import pyplot
    return pyplot.subplots(layout="constrained")[1] if ax is None else ax


def _draw(ax: Axes, figures: Mapping[str, Sequence[float]], name: str, color: str) -> None:
    for key, rows, style in ((name, "training", "-"), (f"val_{name}", "validation", "--")):
        if key in figures:
            epochs = range(1, len(figures[key]) + 1)
            ax.plot(epochs, figures[key], style, color=color, label=f"{name}, {rows}")
    ax.set_ylabel(name, color=color)
    ax.tick_params(axis="y", labelcolor=color)


def _classes(argument: str, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{argument} must be one class a row, (n,); got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{argument} must be integers; got {array.dtype}")
    if array.min() < 0:
        raise ValueError(f"{argument} must be classes from 0; got {array.min()}")
    return array.astype(np.int64)
