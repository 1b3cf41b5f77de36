"""Network: layers, a loss and an optimizer, on a backend that does the arithmetic."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from fastnn import _class_weight, _position, initializers, losses, optimizers
from fastnn import averaging as averages
from fastnn._architecture import as_given, check_memory, check_order, dense_specs, parse, table
from fastnn._class_weight import ClassWeights
from fastnn._config import DEFAULT_BACKEND
from fastnn._position import Position
from fastnn._random import permutation
from fastnn._types import Array
from fastnn._validation import (
    LARGEST,
    all_finite,
    describe,
    flag,
    float_dtype,
    fraction,
    integer,
    known_name,
    matrix,
    output_buffer,
    sample_weights,
    some_rows,
    target,
)
from fastnn._weights import check_finite, converted, named, unnamed
from fastnn.activations import ACTIVATIONS
from fastnn.averaging import Averaging
from fastnn.averaging import checked as checked_averaging
from fastnn.backends import BACKENDS, DenseSpec, Pair, Spec, broken, create
from fastnn.callbacks import Callback, Progress, checked, progress
from fastnn.history import History
from fastnn.layers import Dense, Layer
from fastnn.layers import from_config as layer_from_config
from fastnn.losses import Parametric
from fastnn.metrics import Metric, judges
from fastnn.optimizers import LBFGS, Optimizer
from fastnn.schedules import Schedule
from fastnn.training import Data, Figures, Stream, Training, check_losses, evaluate, shares_of

if TYPE_CHECKING:
    from fastnn.data import Batch
    from fastnn.diagnosis import Diagnosis

__all__ = ["Network"]

_FORMAT = "fastnn"
_FORMAT_VERSION = "1"
_MOST_STEPS = 2**53  # in a file: so many more can be counted


class Network:
    """A fully connected network.

    Parameters
    ----------
    layers : sequence
        First the number of features, an int, then the layers: `Dense`, `Dropout` and
        `GaussianNoise`, or for a dense layer just its number of units. Dropout and noise apply to
        the input of the next layer; the last layer is dense.
    activation : str, default "relu"
        Of the hidden layers given as a number of units; a name of
        `fastnn.activations.ACTIVATIONS`.
    loss : str or description or callable, default "mse"
        A name of `fastnn.losses.LOSSES`; one with parameters, such as ``losses.Huber(0.5)``; or a
        function ``loss(y, out) -> (value, gradient)``, see `fastnn.losses.Function`. For
        ``"poisson"`` and ``"gamma"`` the outputs are the logarithm of the mean.
    output_activation : str, optional
        Of the last layer, unless that names one itself. By default it follows from the loss:
        softmax for ``"cross_entropy"`` and ``"focal"``, sigmoid for ``"binary_cross_entropy"`` and
        ``"binary_focal"``, else identity.
    optimizer : str or Optimizer, default "adam"
        A name of `fastnn.optimizers.OPTIMIZERS`, "lbfgs", or an object such as ``Adam(1e-3)``.
    averaging : Averaging, optional
        An average of the weights to keep beside them, `fastnn.EMA` or `fastnn.SWA`; see `averaged`.
    dtype : {"float32", "float64"}
        Of the weights, the outputs and all arithmetic.
    backend : {"native", "numpy"}
        What does the arithmetic: the compiled core, or NumPy. By default the core, and NumPy only
        where the core was not built, of which ``import fastnn`` warns.
    seed : int, optional
        Decides the initial weights, the order of the rows and the dropout, alike in both backends.
        By default a new one is drawn, which the attribute `seed` tells.

    Attributes
    ----------
    history : History or None
        The figures of the last `fit`, also of one that was interrupted.
    epochs : int
        How many epochs all calls of `fit` together have gone through: where schedules by epochs
        are.

    Raises
    ------
    TypeError, ValueError
        If an argument is of a wrong type, unknown or out of range.
    ImportError
        If the compiled core is missing and ``backend="native"`` was asked for.

    Notes
    -----
    Networks can be pickled, copied and sent to other processes, with all that further training
    depends on. Unpickling runs whatever code the pickle holds, so it is for pickles of your own;
    the files of `save` hold no code, and `load` takes them from anybody.

    Examples
    --------
    >>> import fastnn
    >>> X = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> net = fastnn.Network([2, 8, 1], activation="tanh", loss="binary_cross_entropy", seed=0)
    >>> history = net.fit(X, [0, 1, 1, 0], epochs=500)
    >>> net.predict(X).shape
    (4, 1)
    """

    history: History | None
    epochs: int

    def __init__(
        self,
        layers: Sequence[int | Layer],
        *,
        activation: str = "relu",
        loss: losses.Given = "mse",
        output_activation: str | None = None,
        optimizer: str | Optimizer = "adam",
        averaging: Averaging | None = None,
        dtype: npt.DTypeLike = "float32",
        backend: str = DEFAULT_BACKEND,
        seed: int | None = None,
    ) -> None:
        known_name("activation", activation, ACTIVATIONS)
        implied = losses.resolve(loss).activation
        if output_activation is not None:
            known_name("output_activation", output_activation, ACTIVATIONS)
        features, described = parse(layers, activation, output_activation, implied)
        self._describe(
            features,
            described,
            loss,
            optimizers.resolve(optimizer),
            checked_averaging(averaging),
            float_dtype("dtype", dtype),
            known_name("backend", backend, BACKENDS),
            int.from_bytes(os.urandom(4)) if seed is None else integer("seed", seed, 0),
        )
        self._start(self._initial_weights())

    def _describe(
        self,
        features: int,
        layers: tuple[Layer, ...],
        loss: losses.Given,
        optimizer: Optimizer,
        averaging: Averaging | None,
        dtype: np.dtype[Any],
        backend: str,
        seed: int,
    ) -> None:
        """Set all that is there without weights."""
        check_order(layers)
        self._layers = layers
        self._given_loss = loss
        self._loss = losses.resolve(loss)
        self._optimizer = optimizer
        self._averaging = averaging
        self._backend_name = backend
        self._seed = seed
        self._seed_of_weights, shuffles, masks = np.random.SeedSequence(seed).spawn(3)
        self._shuffler = np.random.Generator(np.random.PCG64(shuffles))
        specs = dense_specs(features, layers)
        if isinstance(optimizer, LBFGS):
            _check_deterministic(optimizer, specs, averaging)
        self._n_features = features
        self._n_outputs = specs[-1].n_out
        self._outputs_a_target = 1
        parameter: float | tuple[float, ...] = self._loss.parameter
        smoothing = 0.0
        if isinstance(loss, Parametric):
            self._outputs_a_target, parameter = loss.parameters(self._n_outputs)
            smoothing = loss.smoothing
        self._spec = Spec(
            layers=specs,
            loss=loss.name if isinstance(loss, Parametric) else loss,
            loss_parameter=parameter,
            dtype=dtype,
            seed=int(masks.generate_state(1, np.uint64)[0]),
            label_smoothing=smoothing,
        )
        self._has_accuracy = self._loss.kind != "regression"
        check_memory(self._spec)

    def _start(self, weights: Sequence[Pair]) -> None:
        """Set up the backend."""
        self._backend = create(self._backend_name, self._spec)
        self._backend.set_weights(weights)
        self._predict_directly = self._backend.predict_directly
        self._one_trainer = _OneTrainer()
        self.history = None
        self._position = Position()
        self._in_fit = False
        self.epochs = 0

    def _initial_weights(self) -> list[Pair]:
        rng = np.random.Generator(np.random.PCG64(self._seed_of_weights))
        dtype = self._spec.dtype
        weights: list[Pair] = []
        dense = [layer for layer in self._layers if isinstance(layer, Dense)]
        for layer, spec in zip(dense, self._spec.layers, strict=True):
            name = layer.weight_init or initializers.default_for(spec.activation)
            W = initializers.draw(name, rng, spec.n_in, spec.n_out, dtype)
            b = initializers.draw(layer.bias_init, rng, 1, spec.n_out, dtype)[0]
            weights.append((W, b if spec.use_bias else None))
        return weights

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, each with the activation that it has."""
        return self._layers

    @property
    def loss(self) -> losses.Given:
        """The loss as it was given: its name, description or function."""
        return self._given_loss

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer's configuration; its state is the network's own."""
        return self._optimizer

    @property
    def steps(self) -> int:
        """How many steps the optimizer has taken: where schedules by steps are."""
        return self._backend.steps()

    @property
    def learning_rate(self) -> float | Schedule:
        """The optimizer's learning rate; set it to go on training with another."""
        return self._optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        if isinstance(self._optimizer, LBFGS):
            raise TypeError("learning_rate must not be set: LBFGS has no learning rate")
        self._optimizer = dataclasses.replace(self._optimizer, learning_rate=value)

    @property
    def averaging(self) -> Averaging | None:
        """What average of the weights is kept."""
        return self._averaging

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self._spec.dtype

    @property
    def backend(self) -> str:
        """``"native"`` or ``"numpy"``."""
        return self._backend_name

    @property
    def seed(self) -> int:
        """The seed that was given or drawn."""
        return self._seed

    @property
    def n_features(self) -> int:
        """Number of inputs."""
        return self._n_features

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self._n_outputs

    def predict(self, X: npt.ArrayLike, out: Array | None = None) -> Array:
        """Return the outputs for some rows: probabilities after softmax and sigmoid.

        Parameters
        ----------
        X : array_like of shape (rows, n_features)
            Finite numbers, in whatever container; it is not copied if it is a C-contiguous array
            of the network's dtype. There may be no rows.
        out : ndarray of shape (rows, n_outputs), optional
            Where to write them: C-contiguous, writable, of the network's dtype, apart from X.

        Returns
        -------
        ndarray of shape (rows, n_outputs)
            `out`, if given.

        Raises
        ------
        TypeError, ValueError
            If X or `out` is not as described.
        FloatingPointError
            If an output is infinite or nan, since a layer's are too large for the dtype.
        """
        result = self._predict_directly(X, out)
        if result is not None:
            return result
        X = matrix("X", X, self._n_features, self._spec.dtype)
        shape = (len(X), self._n_outputs)
        if out is None:
            out = np.empty(shape, self._spec.dtype)
        else:
            output_buffer(out, shape, self._spec.dtype, X)
        self._backend.predict(X, out)
        if not all_finite(out):
            raise FloatingPointError(f"the outputs must be finite; {self._overflow(X)}")
        return out

    def fit(
        self,
        X: npt.ArrayLike | Iterable[Batch],
        y: npt.ArrayLike | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        *,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: str | Mapping[int, float] | None = None,
        validation_data: Sequence[npt.ArrayLike] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        metrics: Iterable[Metric] = (),
        callbacks: Iterable[Callback] = (),
        verbose: int = 0,
        resume: bool = False,
        steps_per_epoch: int | None = None,
    ) -> History:
        """Train. A further call goes on from where this one ends.

        Parameters
        ----------
        X : array_like of shape (rows, n_features), or iterable of batches
            Finite numbers, in whatever container; not copied if it is a C-contiguous array, or
            ``numpy.memmap``, of the network's dtype. Or, without `y`, batches ``(X, y)`` or
            ``(X, y, sample_weight)``: `fastnn.data.Batches`, a sequence, any iterable. They are
            made and converted in another thread while the network trains; `batch_size` does not
            matter then, and `shuffle` only for the order of a sequence.
        y : array_like of shape (rows, n_outputs)
            What the outputs should be. Or of shape (rows,): for one output; for
            ``"cross_entropy"``, ``"focal"``, ``"softmax_cross_entropy"`` and ``"softmax_focal"``,
            the numbers of the right outputs. For ``"poisson"`` at least 0, for ``"gamma"`` greater.
        epochs : int, default 1
            How often to go through all rows.
        batch_size : int, default 32
            Rows a step; the last batch of an epoch may have fewer.
        sample_weight : array_like of shape (rows,), optional
            What each row counts in the mean, >= 0; by default 1.
        class_weight : "balanced" or mapping of int to float, optional
            What the rows of each class count besides, in training only, whatever the loss as long
            as a row's target is one class: its number, or 1 in its column and 0 in all others. A
            class that is not in the mapping counts 1. "balanced" gives all classes the same sum,
            and the rows the mean 1: a class counts ``rows / (classes * its rows)``, as in
            scikit-learn. Of batches it first counts the classes
            (`fastnn.data.Batches.targets`), which those of an iterator cannot be.
        validation_data : tuple, optional
            ``(X, y)`` or ``(X, y, sample_weight)`` to evaluate after each epoch.
        validation_split : float, default 0.0
            The part of the rows, the last ones before any shuffling, to keep for that instead.
        shuffle : bool, default True
            Whether to take the rows in a new random order in each epoch.
        metrics : iterable of str or callable
            Further figures to judge by after each epoch, on the validation rows, or on those to
            train on if there are none: names of scikit-learn's scorers (``"f1_macro"``,
            ``"roc_auc"``, ``"r2"``) or functions (``"mean_absolute_error"``), which are given
            classes, probabilities or numbers as they want, with ``"poisson"`` and ``"gamma"`` the
            exponential of the outputs; or callables ``metric(y, outputs)``, of different names.
            All rows count alike: sample weights count in the loss only.
        callbacks : iterable of Callback
            What to call on the way.
        verbose : {0, 1, 2}
            0: silent. 1: a progress bar an epoch, if tqdm is there and a terminal or notebook to
            show it, else as 2: a line an epoch.
        resume : bool, default False
            Go on with the training that was interrupted, in this process or in that which saved
            the file that this network was loaded from. `epochs` is that of the whole training, of
            which those done are left out. With the same arguments it ends with the same weights,
            bit for bit, as without the interruption. A network that has not been trained is
            trained from the start.
        steps_per_epoch : int, optional
            How many batches to take as an epoch, when X is an iterable without end, or an iterator
            to be gone through once over all epochs.

        Returns
        -------
        History
            Its figures, epoch by epoch; also in the attribute `history`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described; nothing has changed then.
        FloatingPointError
            At the end of an epoch in which the loss became infinite or nan, and at the end if the
            last step made a weight so.
        RuntimeError
            If another thread is training this network.
        KeyboardInterrupt
            On Ctrl-C; the network is as after the last finished step, and can be saved or trained
            on, with `resume` as if nothing had happened.
        ImportError
            If `metrics` names one and scikit-learn is not there.
        """
        epochs = integer("epochs", epochs, 0)
        batch_size = integer("batch_size", batch_size, 1)
        part = fraction("validation_split", validation_split)
        shuffle = flag("shuffle", shuffle)
        verbose = integer("verbose", verbose, 0, 2)
        resume = flag("resume", resume)
        callbacks = checked(callbacks)
        if validation_data is not None and part:
            raise ValueError("validation_data and validation_split must not both be given")
        validation = None
        data: Data | Stream
        if y is None:
            if sample_weight is not None or part:
                raise ValueError(
                    "batches must bring their own sample weights, and rows to validate by must be"
                    " given apart; got sample_weight or validation_split"
                )
            data = self._stream(X, epochs, shuffle, steps_per_epoch, class_weight)
            batches = data.batches
        else:
            if steps_per_epoch is not None:
                raise ValueError("steps_per_epoch must only be given without y, for batches")
            data = self._data(cast(npt.ArrayLike, X), y, sample_weight)
            if part:
                data, validation = _last_part(data, part)
            if class_weight is not None:
                parts = [self._given_target(data)]
                data = data.weighted(self._class_weights(class_weight, parts).of(parts[0]))
            batch_size = min(batch_size, len(data))
            batches = -(-len(data) // batch_size)
        if validation_data is not None:
            validation = self._validation(validation_data)
        judged = data if isinstance(data, Data) and validation is None else validation
        judge = judges(self, metrics, judged, "" if validation is None else "val_")
        return self._train(
            data,
            validation,
            epochs,
            batch_size,
            shuffle,
            judge,
            callbacks,
            progress(verbose, epochs, batches),
            resume,
        )

    def _train(
        self,
        data: Data | Stream,
        validation: Data | None,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        judge: Callable[[], Figures] = dict,
        callbacks: Sequence[Callback] = (),
        progress: Progress | None = None,
        resume: bool = False,
    ) -> History:
        """Train on what has been checked."""
        if isinstance(self._optimizer, LBFGS) and (resume or isinstance(data, Stream)):
            raise ValueError(
                f"optimizer must be one that takes steps on batches; got {self._optimizer!r}, which"
                " needs X and y of all rows, and resume=False"
            )
        with self._one_trainer:
            before = self.history, self._position
            nested, self._in_fit = self._in_fit, True
            if self.history is None or not resume:
                resume = False
                self.history, self._position = History(), Position()
            history, position = self.history, self._position
            # Of trainings within the callbacks of others, the outermost remains
            kept = before if nested else (history, position)
            training = Training(
                net=self,
                backend=self._backend,
                averaging=self._averaging,
                data=data,
                validation=validation,
                epochs=epochs,
                batch_size=batch_size,
                shuffler=self._shuffler,
                shuffle=shuffle,
                has_accuracy=self._has_accuracy,
                judge=judge,
                callbacks=callbacks,
                progress=progress or Progress(),
                history=history,
                position=position,
            )
            try:
                training.run(resume)
            except (TypeError, ValueError):
                if not (len(history) or position.batch):  # nothing has been trained on
                    kept = before
                raise
            finally:
                self.history, self._position = kept
                self._in_fit = nested
            return history

    def train_step(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """Take one optimizer step on one batch, and return its loss before the step.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in `fit`.

        Returns
        -------
        float
            The mean loss, penalties included.

        Raises
        ------
        TypeError, ValueError, FloatingPointError, RuntimeError
            As `fit` does.
        """
        data = self._data(X, y, sample_weight)
        rates = self._optimizer.rates(self.epochs, self._backend.steps(), 1)
        losses, hits = np.empty(1), np.empty(1, np.int64)
        with self._one_trainer:
            self._backend.train(
                data.X,
                data.target,
                data.sample_weight,
                None,
                len(data),
                self._optimizer,
                rates,
                losses,
                hits,
                None,
                shares_of(self._averaging, self._backend, 1, self.epochs),
            )
        check_losses(self._backend, losses)
        return float(losses[0])

    def _try(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        rates: npt.NDArray[np.float64],
        batch_size: int,
        rng: np.random.Generator,
    ) -> npt.NDArray[np.float64]:
        """Take a step with each of some learning rates, and return the losses before them."""
        data = self._data(X, y, sample_weight)
        losses, hits = np.empty(len(rates)), np.empty(len(rates), np.int64)
        batch_size = min(batch_size, len(data))
        rounds = -(-len(rates) * batch_size // len(data))
        order = np.concatenate([permutation(rng, len(data)) for _ in range(rounds)])
        self._backend.train(
            data.X,
            data.target,
            data.sample_weight,
            order[: len(rates) * batch_size],
            batch_size,
            self._optimizer,
            rates,
            losses,
            hits,
            None,
            None,
        )
        return losses

    def gradients(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> tuple[float, list[Pair]]:
        """Return the loss of a batch and its gradients, as the next `train_step` would find them.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in `fit`.

        Returns
        -------
        loss : float
            The mean loss, penalties included.
        gradients : list of (ndarray, ndarray or None)
            ``(dW, db)`` for each dense layer, shaped like `weights`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        FloatingPointError
            If the loss or a gradient is infinite or nan.
        RuntimeError
            If another thread is training this network.
        """
        data = self._data(X, y, sample_weight)
        random = any(layer.dropout or layer.noise for layer in self._spec.layers)
        with self._one_trainer:  # in whose memory they are found
            step = self._backend.steps() if random else 0
            loss, gradients = self._backend.gradients(data.X, data.target, data.sample_weight, step)
        layer = next(broken(gradients), None)
        if layer is not None or not math.isfinite(loss):
            what = "the loss" if layer is None else f"the gradients of layer {layer}"
            raise FloatingPointError(f"{what} must be finite; {self._overflow(data.X)}")
        return loss, gradients

    def evaluate(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> dict[str, float]:
        """Return the loss over some rows and, with a loss that compares classes, the accuracy.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in `fit`.

        Returns
        -------
        dict
            ``"loss"``, the mean, penalties included; for the cross-entropies and focal losses also
            ``"accuracy"``, the part of the rows whose answer is right.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        FloatingPointError
            If the loss is infinite or nan.
        """
        data = self._data(X, y, sample_weight)
        figures = evaluate(self._backend, data, self._has_accuracy)
        if not math.isfinite(figures["loss"]):
            raise FloatingPointError(f"the loss must be finite; {self._overflow(data.X)}")
        return figures

    def _overflow(self, X: Array) -> str:
        """Say which layer's outputs are the first that are not finite, in an error."""
        from fastnn.backends.reference import not_finite

        first = next(not_finite(self._spec, self._backend.weights(), X), None)
        if first is None:
            return (
                f"all layers' outputs are, but {self.dtype} is too narrow for what follows from"
                " them"
            )
        layer, what, values = first
        row, unit = np.argwhere(~np.isfinite(values))[0]
        return (
            f"in {self.dtype} the {what} of layer {layer} are not: got {values[row, unit]} at row"
            f" {row}, unit {unit}. Scale the inputs to about [-1, 1], or train with smaller steps"
        )

    def diagnose(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> Diagnosis:
        """Return figures of what goes through each layer, forward and back.

        They show whether gradients vanish or explode on their way back, and which units no longer
        learn; draw them with `fastnn.plotting.gradient_norms`.

        Parameters
        ----------
        X, y, sample_weight : array_like
            As in `fit`; some hundred rows tell enough. Dropout, noise and penalties are left out.

        Returns
        -------
        fastnn.diagnosis.Diagnosis
            A `fastnn.diagnosis.LayerStatistics` for each dense layer, and ``to_dataframe()``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.

        Examples
        --------
        >>> import fastnn
        >>> X, y = [[0.5, -1.0], [1.0, 2.0]], [0, 1]
        >>> deep = fastnn.Network([2, *[8] * 9, 1], activation="sigmoid", seed=0)
        >>> figures = deep.diagnose(X, y)
        >>> figures[0].gradient_norm < 1e-3 * figures[-1].gradient_norm
        True
        """
        from fastnn.diagnosis import diagnose

        return diagnose(self._spec, self._backend.weights(), self._data(X, y, sample_weight))

    @property
    def weights(self) -> list[Pair]:
        """Copies of ``(W, b)`` of each dense layer: ``y = activation(x @ W + b)``.

        W has shape (inputs, units), b has shape (units,) or is None for a layer without bias.
        While another thread trains the network, they may be refused by a RuntimeError.
        """
        return self._backend.weights()

    def set_weights(self, weights: Sequence[tuple[npt.ArrayLike, npt.ArrayLike | None]]) -> None:
        """Replace all weights; the optimizer's state stays.

        Parameters
        ----------
        weights : sequence of (array_like, array_like or None)
            Shaped like `weights`: finite numbers, converted to the network's dtype.

        Raises
        ------
        TypeError, ValueError
            If they do not fit; nothing has changed then.
        RuntimeError
            If another thread is training this network.
        """
        pairs = converted(weights, self._spec)
        with self._one_trainer:
            self._backend.set_weights(pairs)

    def averaged(self) -> Self:
        """Return a network whose weights are the average of this one's over its training.

        Returns
        -------
        Network
            Otherwise like this one, with nothing in common and as if it had not been trained: no
            state of the optimizer, no average.

        Raises
        ------
        ValueError
            If there is no average: none was asked for, or no step has counted yet.

        Examples
        --------
        >>> import fastnn
        >>> net = fastnn.Network([4, 16, 1], averaging=fastnn.EMA(0.99))
        >>> history = net.fit([[1, 2, 3, 4]], [1], epochs=10)
        >>> net.averaged().predict([[1, 2, 3, 4]]).shape
        (1, 1)
        """
        average = self._backend.average()
        if average is None:
            raise ValueError(
                "averaging must be given, as fastnn.EMA() or fastnn.SWA(start), and a step that"
                f" counts taken, for there to be an average; got averaging={self._averaging!r}"
                f" after {self.epochs} epochs and {self._backend.steps()} steps"
            )
        config = {**self._config(), "averaging": None}
        return self._from_config(config, self._backend_name, named(average))

    def _data(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None,
        names: tuple[str, str, str] = ("X", "y", "sample_weight"),
    ) -> Data:
        """Check and convert the rows to train on or to judge by."""
        rows = matrix(names[0], X, self._n_features, self._spec.dtype)
        some_rows(names[0], rows)
        wanted = self._target(names[1], y, rows, names[0])
        several = self._outputs_a_target > 1
        return Data(
            rows,
            wanted.repeat(self._outputs_a_target, axis=1) if several else wanted,
            sample_weights(names[2], sample_weight, rows, names[0]),
        )

    def _target(self, name: str, y: npt.ArrayLike, rows: Array, rows_of: str) -> npt.NDArray[Any]:
        columns = self._n_outputs // self._outputs_a_target
        return target(name, y, rows, columns, self._loss.kind, rows_of, self._loss.sign)

    def _given_target(self, data: Data) -> npt.NDArray[Any]:
        """Return the targets as they were given, a column each."""
        several = self._outputs_a_target > 1
        return data.target[:, :: self._outputs_a_target] if several else data.target

    def _class_weights(
        self, class_weight: str | Mapping[int, float], targets: Iterable[npt.NDArray[Any]]
    ) -> ClassWeights:
        if isinstance(class_weight, str) and class_weight == "balanced":
            return _class_weight.balanced(targets, self._loss.kind)
        columns = self._n_outputs // self._outputs_a_target
        return _class_weight.given(class_weight, self._loss.kind, columns)

    def _stream(
        self,
        source: object,
        epochs: int,
        shuffle: bool,
        steps_per_epoch: int | None,
        class_weight: str | Mapping[int, float] | None,
    ) -> Stream:
        """Check and convert batches to train on, each when its turn is near."""
        from fastnn import data

        if hasattr(source, "dtype") or hasattr(source, "columns"):
            raise TypeError(
                "y must be an array of real numbers; got None, and without y, X must be an iterable"
                f" of batches; got {describe(source)}"
            )
        if steps_per_epoch is not None:
            steps_per_epoch = integer("steps_per_epoch", steps_per_epoch, 1)
        elif isinstance(source, Iterator) and epochs > 1:
            raise ValueError(
                "steps_per_epoch must be given where X is an iterator, which cannot be gone"
                f" through {epochs} times; got None"
            )

        names = ("X of a batch", "y of a batch", "sample_weight of a batch")
        weights: ClassWeights | None = None

        def convert(batch: object) -> Data:
            converted = self._data(*data.parts(batch), names)
            if weights is not None:
                converted = converted.weighted(weights.of(self._given_target(converted)))
            return converted

        epoch, batches = data.epochs_of(source, convert, shuffle, self._seed, steps_per_epoch)
        if class_weight is not None:
            targets = (
                self._target(names[1], y, np.empty((len(y), 0), self._spec.dtype), names[1])
                for y in data.targets_of(source, steps_per_epoch)
            )
            weights = self._class_weights(class_weight, targets)
        return Stream(epoch, batches)

    def _validation(self, given: Sequence[npt.ArrayLike]) -> Data:
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight); got"
                f" {type(given).__name__}"
                + (f" of {len(given)}" if isinstance(given, (tuple, list)) else "")
            )
        X, y, weight = (*given, None)[:3]
        names = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
        return self._data(X, y, weight, names)

    def save(self, path: str | os.PathLike[str], include_optimizer: bool = False) -> None:
        """Write the network to a safetensors file, all or nothing.

        Parameters
        ----------
        path : str or os.PathLike
            The file to write or replace.
        include_optimizer : bool, default False
            Whether to keep the optimizer's state, the average of the weights, the state of the
            shuffling, and where `fit` was, so that it goes on from the loaded network exactly as
            from this one.

        Raises
        ------
        OSError
            If the file could not be written.
        TypeError
            If the loss is a function, which a file cannot hold.
        ValueError
            If a weight is infinite or nan; the old file is left as it was.
        """
        from fastnn import __version__, serialization

        if callable(self._given_loss):
            raise TypeError(
                f"loss must be a name or a description for a network to be saved; got the function"
                f" {self._loss.name!r}"
            )
        config, tensors = self._config(), named(self._backend.weights())
        if flag("include_optimizer", include_optimizer):
            config, tensors = self._everything()
        check_finite("weights must be finite to be saved", tensors)
        metadata = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "fastnn_version": __version__,
            "network": json.dumps(config),
        }
        serialization.write(path, tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str = DEFAULT_BACKEND) -> Self:
        """Read a network that `save` wrote.

        Parameters
        ----------
        path : str or os.PathLike
            The file.
        backend : {"native", "numpy"}
            What is to do the arithmetic, whichever did it before; by default as in `Network`.

        Returns
        -------
        Network
            With the same weights to the bit.

        Raises
        ------
        ValueError
            If the file is damaged, no model of a version known here, or has a weight that is
            infinite or nan.
        OSError
            If the file could not be read.
        ImportError
            If the compiled core is missing and ``backend="native"`` was asked for.
        """
        from fastnn import serialization

        known_name("backend", backend, BACKENDS)
        tensors, metadata = serialization.read(path)
        found = (metadata.get("format"), metadata.get("format_version"))
        if found != (_FORMAT, _FORMAT_VERSION):
            raise ValueError(
                f"path must be of a fastnn model of format version {_FORMAT_VERSION};"
                f" {os.fspath(path)!r} has format {found[0]!r}, version {found[1]!r}"
            )
        try:
            config = json.loads(metadata["network"])
            check_finite("weights must be finite", tensors)
            return cls._from_config(config, backend, tensors)
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"path must be of a fastnn model; the description in {os.fspath(path)!r}"
                f" is damaged: {type(error).__name__}: {error}"
            ) from error

    def _config(self) -> dict[str, Any]:
        """Return what describes the network without its weights, ready for JSON."""
        return {
            "n_features": self._n_features,
            "layers": [layer.get_config() for layer in self._layers],
            "loss": losses.get_config(self._given_loss),
            "optimizer": self._optimizer.get_config(),
            "averaging": self._averaging and self._averaging.get_config(),
            "dtype": self._spec.dtype.name,
            "seed": self._seed,
        }

    @classmethod
    def _from_config(
        cls, config: Mapping[str, Any], backend: str, tensors: Mapping[str, Array]
    ) -> Self:
        """Make a network from `_config` and named arrays, which must be just those it needs."""
        net = cls.__new__(cls)
        features = integer("n_features", config["n_features"], 1, LARGEST)
        layers = tuple(layer_from_config(layer) for layer in config["layers"])
        dtype = float_dtype("dtype", config["dtype"])
        check_order(layers)
        # First the arrays: what is not there takes no memory for its description either.
        own, training = _position.apart(tensors)
        weights, slots, average = unnamed(own, dense_specs(features, layers), dtype)
        net._describe(
            features,
            layers,
            losses.from_config(config["loss"]),
            optimizers.from_config(config["optimizer"]),
            averages.from_config(config.get("averaging")),
            dtype,
            backend,
            integer("seed", config["seed"], 0),
        )
        if len(slots) not in (0, net._optimizer.slots):
            raise ValueError(
                f"{net._optimizer} must have {net._optimizer.slots} slots; got {len(slots)}"
            )
        if "generator" in config:
            net._shuffler.bit_generator.state = config["generator"]
        net._start(weights)
        net._backend.set_state(integer("steps", config.get("steps", 0), 0, _MOST_STEPS), slots)
        net._backend.set_average(average)
        net.epochs = integer("epochs", config.get("epochs", 0), 0, _MOST_STEPS)
        if "training" in config:
            net.history, net._position = _position.read(config["training"], training)
        return net

    def _everything(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return `_config` and the arrays, with all that further training depends on."""
        steps, slots = self._backend.state()
        generator = self._shuffler.bit_generator.state
        config = {
            **self._config(),
            "steps": steps,
            "epochs": self.epochs,
            "generator": generator,
        }
        tensors = named(self._backend.weights(), slots, self._backend.average())
        if self.history is not None:
            config["training"], training = _position.written(self.history, self._position)
            tensors |= training
        return config, tensors

    def __getstate__(self) -> dict[str, Any]:
        from fastnn import __version__

        config, tensors = self._everything()
        return {
            "format_version": _FORMAT_VERSION,
            "fastnn_version": __version__,
            "config": config,
            "backend": self._backend_name,
            "tensors": tensors,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("format_version") != _FORMAT_VERSION:
            raise ValueError(
                f"a pickled network must be of format version {_FORMAT_VERSION}; got one of version"
                f" {state.get('format_version')!r}, by fastnn {state.get('fastnn_version')!r}"
            )
        other = self._from_config(state["config"], state["backend"], state["tensors"])
        self.__dict__.update(other.__dict__)

    def summary(self) -> str:
        """Return a table of the layers: shape, activation, number of parameters, memory."""
        what = f"Network, {self._loss.name}, {self.optimizer.name}, {self.dtype}"
        return f"{what}, {self.backend} backend\n{table(self._layers, self._spec)}"

    def __repr__(self) -> str:
        shown, hidden, last = as_given(self._n_features, self._layers)
        arguments = [shown, f"activation={hidden!r}", f"loss={self.loss!r}"]
        if last != self._loss.activation:
            arguments.append(f"output_activation={last!r}")
        arguments += [
            f"optimizer={self.optimizer!r}",
            *([f"averaging={self.averaging!r}"] if self.averaging else []),
            f"dtype={self.dtype.name!r}",
            f"backend={self.backend!r}",
            f"seed={self.seed}",
        ]
        return f"Network({', '.join(arguments)})"


def _check_deterministic(
    optimizer: Optimizer, specs: Sequence[DenseSpec], averaging: Averaging | None
) -> None:
    """Refuse what a search for the minimum of one function cannot have."""
    random = any(layer.dropout or layer.noise for layer in specs)
    bounded = any(layer.max_norm < math.inf for layer in specs)
    for there, what in (
        (random, "Dropout and GaussianNoise"),
        (bounded, "max_norm"),
        (averaging is not None, "averaging"),
    ):
        if there:
            raise ValueError(f"optimizer {optimizer!r} must be used without {what}")


def _last_part(data: Data, part: float) -> tuple[Data, Data]:
    """Return the rows to train on and the last ones, to validate by."""
    # Rounded, since 10 * (1 - 0.9) is a bit less than 1
    rows = math.floor(round(len(data) * (1.0 - part), 6))
    if not 0 < rows < len(data):
        raise ValueError(
            f"validation_split must leave rows to train on and to validate by;"
            f" got {part!r} of {len(data)} rows"
        )
    return data.split(rows)


class _OneTrainer:
    """Lets one thread at a time change a network, that one as deep as callbacks take it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "another thread is training this network; wait for it, or train a copy.deepcopy"
            )

    def __exit__(self, *exception: object) -> None:
        self._lock.release()
