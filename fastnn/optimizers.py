"""Optimizers, in order of increasing complexity; each is its formula.

The formulas are PyTorch's (https://docs.pytorch.org/docs/stable/optim.html), which has them from
the papers named with each.  The base class keeps the books.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fastnn import _described
from fastnn._described import Described
from fastnn._optional import needed
from fastnn._types import Array
from fastnn._validation import (
    as_array,
    describe,
    flag,
    fraction,
    integer,
    known_name,
    non_negative,
    positive,
)
from fastnn.schedules import Schedule, learning_rate

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "Optimizer",
    "RMSProp",
    "from_config",
    "resolve",
]


class _Memory:
    """What `Optimizer.update` keeps between calls."""

    def __init__(self) -> None:
        self.steps = 0
        self.slots: list[list[Array]] = []


@dataclass(frozen=True, repr=False)
class Optimizer(Described):
    """Base of the optimizers: a configuration that does not change, and `update`.

    Parameters
    ----------
    learning_rate : float or Schedule
        Greater than 0, or one of `fastnn.schedules`.
    weight_decay : float
        At least 0; applies to all parameters, biases included.
    clip_norm : float or None
        If given, gradients are scaled down so that their norm, taken over all of them together, is
        at most about this, as `torch.nn.utils.clip_grad_norm_` does.
    clip_value : float or None
        If given, each number of the gradients is cut to ``[-clip_value, clip_value]``, before any
        `clip_norm`, as `torch.nn.utils.clip_grad_value_` does.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not a number or out of range.
    """

    code: ClassVar[int]

    learning_rate: float | Schedule = 0.001
    weight_decay: float = field(default=0.0, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    _memory: _Memory = field(init=False, compare=False, default_factory=_Memory)

    def __post_init__(self) -> None:
        self._set("learning_rate", learning_rate("learning_rate", self.learning_rate))
        self._set("weight_decay", non_negative("weight_decay", self.weight_decay))
        if self.clip_norm is not None:
            self._set("clip_norm", positive("clip_norm", self.clip_norm))
        if self.clip_value is not None:
            self._set("clip_value", positive("clip_value", self.clip_value))

    @property
    def slots(self) -> int:
        """Number of state arrays that go with each parameter array."""
        raise NotImplementedError

    def coefficients(self) -> tuple[float, float, float, float, float]:
        """The hyperparameters as the compiled core takes them.

        Always five: SGD's ``momentum``, ``rho`` or ``beta_1``; RMSProp's ``momentum`` or
        ``beta_2``; ``epsilon``; ``weight_decay``; ``nesterov`` as 0 or 1, or NAdam's
        ``momentum_decay``.
        """
        raise NotImplementedError

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        """The formula: change ``param`` and its ``slots`` in place.

        Parameters
        ----------
        param, grad : numpy.ndarray
            Of one shape and dtype.
        slots : sequence of numpy.ndarray
            Likewise; as many as `slots`, zeros before the first step.
        step : int
            Number of the step, the first being 1.
        rate : float
            Learning rate of this step.
        """
        raise NotImplementedError

    def rates(self, epoch: int, step: int, n: int) -> npt.NDArray[np.float64]:
        """The learning rates of `n` steps, the first of them number `step`, in an epoch."""
        rate = self.learning_rate
        if not isinstance(rate, Schedule):
            return np.full(n, rate)
        given = rate.rates(epoch, step, n)
        if isinstance(given, np.ndarray) and given.dtype == np.float64 and given.shape == (n,):
            return np.ascontiguousarray(given)
        what = f"what the schedule {rate!r} gives"
        rates = np.ascontiguousarray(as_array(what, given), np.float64)
        if rates.shape != (n,):
            raise ValueError(f"{what} must have shape ({n},); got shape {rates.shape}")
        return rates

    def clipped(self, grads: Sequence[Array]) -> list[Array]:
        """``grads`` cut to ``clip_value``, then times ``min(1, clip_norm / (norm + 1e-6))``."""
        if self.clip_value is not None:
            grads = [np.clip(g, -self.clip_value, self.clip_value) for g in grads]
        if self.clip_norm is None:
            return list(grads)
        norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in grads))
        scale = min(1.0, self.clip_norm / (norm + 1e-6))
        return [g * scale for g in grads]

    def update(self, params: Sequence[Array], grads: Sequence[npt.ArrayLike]) -> None:
        """Take one step on any NumPy arrays, in place.

        The optimizer keeps its state (momentum, moments, number of steps) from call to call.  A
        network does not use this: it keeps a state of its own, so that one optimizer object may
        serve several networks.

        Parameters
        ----------
        params : sequence of numpy.ndarray
            float32 or float64, writeable, of any shapes, the same ones in each call.
        grads : sequence of array_like
            The gradients, of the same shapes; left as they are.

        Raises
        ------
        TypeError, ValueError
            If the arrays are of a wrong type, read-only, or do not go together; nothing has
            changed then.
        """
        gradients = self._checked(params, grads)
        memory = self._memory
        rate = self.learning_rate
        if isinstance(rate, Schedule):
            if rate.per == "epoch":
                raise ValueError(f"update knows of no epochs: give {rate.name} per='step'")
            rate = float(rate(memory.steps))
        if not memory.slots:
            memory.slots = [[np.zeros_like(p) for _ in range(self.slots)] for p in params]
        memory.steps += 1
        for param, grad, slots in zip(params, self.clipped(gradients), memory.slots, strict=True):
            self.apply(param, grad, slots, memory.steps, rate)

    def _checked(self, params: Sequence[Array], grads: Sequence[npt.ArrayLike]) -> list[Array]:
        """``grads`` as arrays of the parameters' dtypes, if they go together."""
        if len(params) != len(grads):
            raise ValueError(
                f"grads must have one array for each of the {len(params)} in params;"
                f" got {len(grads)}"
            )
        memory = self._memory
        if memory.steps and len(memory.slots) != len(params):
            raise ValueError(
                f"params must be the {len(memory.slots)} arrays of the calls before;"
                f" got {len(params)}"
            )
        gradients: list[Array] = []
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            if not isinstance(param, np.ndarray) or param.dtype not in (np.float32, np.float64):
                raise TypeError(
                    f"params[{i}] must be a NumPy array of float32 or float64;"
                    f" got {describe(param)}"
                )
            if not param.flags.writeable:
                raise ValueError(f"params[{i}] must be writeable; got a read-only array")
            gradient = np.asarray(grad, dtype=param.dtype)
            if gradient.shape != param.shape:
                raise ValueError(
                    f"grads[{i}] must have the shape of params[{i}], {param.shape};"
                    f" got {gradient.shape}"
                )
            for slot in memory.slots[i] if memory.steps else ():
                if slot.shape != param.shape or slot.dtype != param.dtype:
                    raise ValueError(
                        f"params[{i}] must have the shape and dtype of the calls before,"
                        f" {slot.shape} and {slot.dtype}; got {param.shape} and {param.dtype}"
                    )
            gradients.append(gradient)
        return gradients

    def _decayed(self, param: Array, grad: Array) -> Array:
        """Weight decay as the gradient of an L2 penalty, ``weight_decay / 2 * sum param**2``."""
        return grad + self.weight_decay * param if self.weight_decay else grad


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Gradient descent, with momentum on request (Sutskever et al. 2013).

    Without momentum ``param -= learning_rate * grad``; with it::

        buf = momentum * buf + grad
        param -= learning_rate * buf                      # or, with nesterov,
        param -= learning_rate * (grad + momentum * buf)

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
    momentum : float, default 0.0
        ``0 <= momentum < 1``.
    nesterov : bool, default False
        Whether to look ahead along the momentum; needs ``momentum > 0``.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "sgd"
    code: ClassVar[int] = 0

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("momentum", fraction("momentum", self.momentum))
        self._set("nesterov", flag("nesterov", self.nesterov))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0; got momentum=0.0")

    @property
    def slots(self) -> int:
        return 1 if self.momentum else 0

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.momentum, 0.0, 0.0, self.weight_decay, float(self.nesterov)

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        grad = self._decayed(param, grad)
        if self.momentum:
            (buf,) = slots
            buf[...] = self.momentum * buf + grad
            grad = grad + self.momentum * buf if self.nesterov else buf
        param -= rate * grad


@dataclass(frozen=True, repr=False)
class AdaGrad(Optimizer):
    """Rates that fall with the sum of squared gradients (Duchi, Hazan and Singer 2011).

    ::

        total = total + grad**2
        param -= learning_rate * grad / (sqrt(total) + epsilon)

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    epsilon : float, default 1e-10
        Greater than 0; added to the root.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "adagrad"
    code: ClassVar[int] = 1

    learning_rate: float | Schedule = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("epsilon", positive("epsilon", self.epsilon))

    @property
    def slots(self) -> int:
        return 1

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return 0.0, 0.0, self.epsilon, self.weight_decay, 0.0

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        (total,) = slots
        grad = self._decayed(param, grad)
        total += grad**2
        param -= rate * grad / (np.sqrt(total) + self.epsilon)


@dataclass(frozen=True, repr=False)
class RMSProp(Optimizer):
    """Rates that follow a running mean of squared gradients (Tieleman and Hinton 2012).

    ::

        mean = rho * mean + (1 - rho) * grad**2
        scaled = grad / (sqrt(mean) + epsilon)
        param -= learning_rate * scaled           # or, with momentum,
        buf = momentum * buf + scaled
        param -= learning_rate * buf

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    rho : float, default 0.99
        ``0 <= rho < 1``: how slowly the mean forgets.
    epsilon : float, default 1e-8
        Greater than 0; added to the root.
    momentum : float, default 0.0
        ``0 <= momentum < 1``, on the scaled gradient.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "rmsprop"
    code: ClassVar[int] = 2

    learning_rate: float | Schedule = 0.01
    rho: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rho", fraction("rho", self.rho))
        self._set("epsilon", positive("epsilon", self.epsilon))
        self._set("momentum", fraction("momentum", self.momentum))

    @property
    def slots(self) -> int:
        return 2 if self.momentum else 1

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.rho, self.momentum, self.epsilon, self.weight_decay, 0.0

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        mean = slots[0]
        grad = self._decayed(param, grad)
        mean[...] = self.rho * mean + (1 - self.rho) * grad**2
        grad = grad / (np.sqrt(mean) + self.epsilon)
        if self.momentum:
            buf = slots[1]
            buf[...] = self.momentum * buf + grad
            grad = buf
        param -= rate * grad


@dataclass(frozen=True, repr=False)
class AdaDelta(Optimizer):
    """Steps of the size of the steps before them (Zeiler 2012, "ADADELTA").

    ``v`` and ``u`` being running means of squared gradients and of squared steps::

        v = rho * v + (1 - rho) * grad**2
        delta = sqrt(u + epsilon) / sqrt(v + epsilon) * grad
        u = rho * u + (1 - rho) * delta**2
        param -= learning_rate * delta

    Parameters
    ----------
    learning_rate : float or Schedule, default 1.0
    rho : float, default 0.9
        ``0 <= rho < 1``: how slowly the two means forget.
    epsilon : float, default 1e-6
        Greater than 0; under both roots, it decides the size of the first steps.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "adadelta"
    code: ClassVar[int] = 5

    learning_rate: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rho", fraction("rho", self.rho))
        self._set("epsilon", positive("epsilon", self.epsilon))

    @property
    def slots(self) -> int:
        return 2

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.rho, 0.0, self.epsilon, self.weight_decay, 0.0

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        v, u = slots
        grad = self._decayed(param, grad)
        v[...] = self.rho * v + (1 - self.rho) * grad**2
        delta = np.sqrt(u + self.epsilon) / np.sqrt(v + self.epsilon) * grad
        u[...] = self.rho * u + (1 - self.rho) * delta**2
        param -= rate * delta


@dataclass(frozen=True, repr=False)
class _Moments(Optimizer):
    """What Adam, AdamW and NAdam share: running means of the gradient and of its square."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("beta_1", fraction("beta_1", self.beta_1))
        self._set("beta_2", fraction("beta_2", self.beta_2))
        self._set("epsilon", positive("epsilon", self.epsilon))

    @property
    def slots(self) -> int:
        return 2

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, 0.0

    def _follow(self, grad: Array, m: Array, v: Array) -> None:
        m[...] = self.beta_1 * m + (1 - self.beta_1) * grad
        v[...] = self.beta_2 * v + (1 - self.beta_2) * grad**2

    def _root(self, v: Array, step: int) -> Array:
        root: Array = np.sqrt(v) / math.sqrt(1 - self.beta_2**step) + self.epsilon
        return root


@dataclass(frozen=True, repr=False)
class _Adam(_Moments):
    """What Adam and AdamW share beyond that: the update, and AMSGrad's variant of it."""

    amsgrad: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("amsgrad", flag("amsgrad", self.amsgrad))

    @property
    def slots(self) -> int:
        return 3 if self.amsgrad else 2

    def _step(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        m, v = slots[:2]
        self._follow(grad, m, v)
        if self.amsgrad:
            largest = slots[2]
            np.maximum(largest, v, out=largest)
            v = largest
        param -= rate / (1 - self.beta_1**step) * m / self._root(v, step)


@dataclass(frozen=True, repr=False)
class Adam(_Adam):
    """Running means of the gradient and of its square, their bias corrected (Kingma and Ba 2015).

    At step t, counted from 1::

        m = beta_1 * m + (1 - beta_1) * grad
        v = beta_2 * v + (1 - beta_2) * grad**2
        param -= learning_rate * (m / (1 - beta_1**t)) / (sqrt(v / (1 - beta_2**t)) + epsilon)

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
    beta_1, beta_2 : float, default 0.9 and 0.999
        ``0 <= beta < 1``: how slowly the two means forget.
    epsilon : float, default 1e-8
        Greater than 0; added to the root, after the bias correction.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    amsgrad : bool, default False
        Whether the largest mean of squares so far takes the place of the mean of squares, so that
        no rate grows again (AMSGrad: Reddi, Kale and Kumar 2018).
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "adam"
    code: ClassVar[int] = 3

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        self._step(param, self._decayed(param, grad), slots, step, rate)


@dataclass(frozen=True, repr=False)
class AdamW(_Adam):
    """Adam with the weight decay apart from the gradient (Loshchilov and Hutter 2019).

    ``param *= 1 - learning_rate * weight_decay``, then the step of `Adam`.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.001
    beta_1, beta_2 : float, default 0.9 and 0.999
        ``0 <= beta < 1``: how slowly the two means forget.
    epsilon : float, default 1e-8
        Greater than 0; added to the root, after the bias correction.
    weight_decay : float, default 0.01
        At least 0; decoupled, see above.
    amsgrad : bool, default False
        As of `Adam`.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "adamw"
    code: ClassVar[int] = 4

    weight_decay: float = field(default=0.01, kw_only=True)

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        param *= 1 - rate * self.weight_decay
        self._step(param, grad, slots, step, rate)


@dataclass(frozen=True, repr=False)
class NAdam(_Moments):
    """Adam with Nesterov's look ahead (Dozat 2016, "Incorporating Nesterov momentum into Adam").

    ``m`` and ``v`` being Adam's means and ``mu_t`` the momentum of step t::

        mu_t = beta_1 * (1 - 0.96 ** (t * momentum_decay) / 2)
        m_hat = (mu_{t+1} * m / (1 - mu_1 * ... * mu_{t+1})
                 + (1 - mu_t) * grad / (1 - mu_1 * ... * mu_t))
        param -= learning_rate * m_hat / (sqrt(v / (1 - beta_2**t)) + epsilon)

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.002
    beta_1, beta_2 : float, default 0.9 and 0.999
        ``0 <= beta < 1``: how slowly the two means forget.
    epsilon : float, default 1e-8
        Greater than 0; added to the root, after the bias correction.
    momentum_decay : float, default 0.004
        At least 0: how fast the momentum grows from about ``beta_1 / 2`` to ``beta_1``.
    weight_decay : float, default 0.0
        An L2 penalty: ``grad += weight_decay * param``.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "nadam"
    code: ClassVar[int] = 6

    learning_rate: float | Schedule = 0.002
    momentum_decay: float = 0.004

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("momentum_decay", non_negative("momentum_decay", self.momentum_decay))

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.beta_1, self.beta_2, self.epsilon, self.weight_decay, self.momentum_decay

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        m, v = slots
        grad = self._decayed(param, grad)
        self._follow(grad, m, v)
        momentums = self.beta_1 * (1 - 0.96 ** (np.arange(1, step + 2) * self.momentum_decay) / 2)
        product, now, following = momentums[:-1].prod(), momentums[-2], momentums[-1]
        of_grad = float(rate * (1 - now) / (1 - product))
        of_mean = float(rate * following / (1 - product * following))
        param -= (of_grad * grad + of_mean * m) / self._root(v, step)


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Steps of one size, in the direction of a momentum's sign.

    Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2::

        param *= 1 - learning_rate * weight_decay
        param -= learning_rate * sign(beta_1 * m + (1 - beta_1) * grad)
        m = beta_2 * m + (1 - beta_2) * grad

    Its learning rate is best 3 to 10 times smaller than Adam's, the weight decay larger by as much.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.0001
    beta_1, beta_2 : float, default 0.9 and 0.99
        ``0 <= beta < 1``: how much of m counts in a step, and how slowly m forgets.
    weight_decay : float, default 0.0
        Decoupled, as that of `AdamW`.
    clip_norm, clip_value : float, optional
        See `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.
    """

    name: ClassVar[str] = "lion"
    code: ClassVar[int] = 7

    learning_rate: float | Schedule = 0.0001
    beta_1: float = 0.9
    beta_2: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("beta_1", fraction("beta_1", self.beta_1))
        self._set("beta_2", fraction("beta_2", self.beta_2))

    @property
    def slots(self) -> int:
        return 1

    def coefficients(self) -> tuple[float, float, float, float, float]:
        return self.beta_1, self.beta_2, 0.0, self.weight_decay, 0.0

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        (m,) = slots
        param *= 1 - rate * self.weight_decay
        param -= rate * np.sign(self.beta_1 * m + (1 - self.beta_1) * grad)
        m[...] = self.beta_2 * m + (1 - self.beta_2) * grad


@dataclass(frozen=True, repr=False)
class LBFGS(Optimizer):
    """Quasi-Newton steps along searched lines, on all rows at once (Liu and Nocedal 1989).

    The direction of a step is ``-H grad``, where H, an estimate of the inverse of the Hessian,
    follows from the last differences of gradients and of parameters; how far to go is found by a
    line search, which computes the loss and its gradient about once or twice an iteration. It is
    SciPy's (``scipy.optimize.minimize``, "L-BFGS-B"), so it needs SciPy:
    ``pip install "fastnn[lbfgs]"``. For small data and smooth losses without noise it is hard to
    beat; each network starts with nothing known of the Hessian in each `Network.fit`.

    In `Network.fit` an epoch is one iteration, whatever the `batch_size`, and training ends before
    the last one where no further progress is made. It takes no batches, layers with random numbers
    or ``max_norm``, averages of weights, or `resume`. There is no learning rate.

    Parameters
    ----------
    memory : int, default 10
        How many differences to keep.
    tolerance : float, default 1e-5
        It ends when no component of the gradient is larger than this.
    relative_tolerance : float, default 2.2e-9
        It ends when an iteration reduces the loss by less than this part of it.
    line_search : int, default 20
        At most so many evaluations an iteration.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optimizers import LBFGS
    >>> x = np.array([3.0, -2.0])
    >>> loss = LBFGS().minimize(lambda: (x @ x, [2 * x]), [x])
    >>> bool(np.abs(x).max() < 1e-6)
    True
    """

    name: ClassVar[str] = "lbfgs"
    code: ClassVar[int] = -1

    learning_rate: float | Schedule = field(default=1.0, init=False)
    weight_decay: float = field(default=0.0, init=False)
    clip_norm: float | None = field(default=None, init=False)
    clip_value: float | None = field(default=None, init=False)
    memory: int = 10
    tolerance: float = 1e-5
    relative_tolerance: float = 2.2e-9
    line_search: int = 20

    def __post_init__(self) -> None:
        self._set("memory", integer("memory", self.memory, 1))
        self._set("tolerance", non_negative("tolerance", self.tolerance))
        self._set("relative_tolerance", non_negative("relative_tolerance", self.relative_tolerance))
        self._set("line_search", integer("line_search", self.line_search, 1))

    @property
    def slots(self) -> int:
        return 0

    def coefficients(self) -> tuple[float, float, float, float, float]:
        raise self._takes_no_steps()

    def apply(
        self, param: Array, grad: Array, slots: Sequence[Array], step: int, rate: float
    ) -> None:
        raise self._takes_no_steps()

    def rates(self, epoch: int, step: int, n: int) -> npt.NDArray[np.float64]:
        raise self._takes_no_steps()

    def update(self, params: Sequence[Array], grads: Sequence[npt.ArrayLike]) -> None:
        """Refuse: it needs the loss, too, wherever it looks. Use `minimize`."""
        raise self._takes_no_steps()

    def _takes_no_steps(self) -> TypeError:
        return TypeError(
            f"optimizer must be one that takes steps by gradients alone; got {self!r}, for which"
            " there are Network.fit and LBFGS.minimize"
        )

    def minimize(
        self,
        function: Callable[[], tuple[float, Sequence[npt.ArrayLike]]],
        params: Sequence[Array],
        iterations: int = 1000,
    ) -> float:
        """Minimize a function of any NumPy arrays, changing them in place.

        Parameters
        ----------
        function : callable
            Without arguments: returns the loss and its gradients where `params` are.
        params : sequence of numpy.ndarray
            float32 or float64, writeable, of any shapes.
        iterations : int, default 1000
            At most so many, at least 1.

        Returns
        -------
        float
            The loss in the end.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or the gradients do not fit.
        ImportError
            If SciPy is not there.
        """
        iterations = integer("iterations", iterations, 1)
        self._checked(params, params)
        ends = np.cumsum([param.size for param in params])[:-1]

        def put(vector: npt.NDArray[np.float64]) -> None:
            for param, part in zip(params, np.split(vector, ends), strict=True):
                param[...] = part.reshape(param.shape)

        def at(vector: npt.NDArray[np.float64]) -> tuple[float, Array]:
            put(vector)
            loss, grads = function()
            checked = self._checked(params, grads)
            return float(loss), np.concatenate([grad.ravel() for grad in checked])

        start = np.concatenate([param.ravel() for param in params])
        loss, vector = self.search(at, start, iterations)
        put(vector)
        return loss

    def search(
        self,
        function: Callable[[npt.NDArray[np.float64]], tuple[float, Array]],
        start: Array,
        iterations: int,
        iterated: Callable[[npt.NDArray[np.float64]], bool] | None = None,
    ) -> tuple[float, npt.NDArray[np.float64]]:
        """Minimize a function of one vector; return the least value, and where it is.

        After each iteration, ``iterated`` is told where it led to, and returns whether to go on.
        """
        with needed("LBFGS", "SciPy", "lbfgs"):
            from scipy.optimize import minimize

        def at(vector: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            value, gradient = function(vector)
            return value, gradient.astype(np.float64)

        def callback(xk: npt.NDArray[np.float64]) -> None:
            if iterated is not None and not iterated(xk.copy()):
                raise StopIteration

        found = minimize(
            at,
            start.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            callback=callback,
            options={
                "maxcor": self.memory,
                "gtol": self.tolerance,
                "ftol": self.relative_tolerance,
                "maxls": self.line_search,
                "maxiter": iterations,
                "maxfun": 2 * iterations * self.line_search + 1,
            },
        )
        return float(found.fun), found.x


OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.name: cls for cls in (SGD, AdaGrad, RMSProp, Adam, AdamW, AdaDelta, NAdam, Lion)
}
"""Those that take steps by gradients alone."""

_ALL = OPTIMIZERS | {LBFGS.name: LBFGS}


def resolve(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer from its name, with its defaults; an optimizer as it is.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an optimizer.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(
            "optimizer must be a name or an optimizer such as Adam(0.001);"
            f" got {describe(optimizer)}"
        )
    return _ALL[known_name("optimizer", optimizer, _ALL)]()


def from_config(config: object) -> Optimizer:
    """Make the optimizer that `get_config` described.

    Raises
    ------
    ValueError
        If ``config`` describes none.
    """
    return _described.from_config("optimizer", _ALL, config)
