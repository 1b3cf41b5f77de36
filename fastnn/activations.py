"""Activations: one table, `ACTIVATIONS`, a row each.

A row gives the function and its derivative as NumPy formulas, ``z`` being what goes in, ``h`` what
came out and ``p`` the parameter.  Results have the dtype of ``z``.  NaN stays NaN, and infinities
give the limits.  To add an activation, add a row here and its kernel to the compiled core, in the
same order: the tests find it by themselves.

==========  ===============================================  ====  ====================
name        formula                                          p     source
==========  ===============================================  ====  ====================
identity    z
step        where(z > 0, 1, 0)
sigmoid     1 / (1 + exp(-z))
tanh        tanh(z)
relu        where(z > 0, z, 0)                                     Nair and Hinton 2010
leaky_relu  where(z > 0, z, p * z)                           0.01  Maas et al. 2013
elu         where(z > 0, z, p * (exp(z) - 1))                1.0   Clevert et al. 2016
selu        1.0507 * where(z > 0, z, 1.6733 * (exp(z) - 1))        Klambauer et al. 2017
softplus    log(1 + exp(z))                                        Dugas et al. 2001
gelu        z * (1 + erf(z / sqrt(2))) / 2                         Hendrycks and Gimpel 2016
silu        z / (1 + exp(-z))                                      Elfwing et al. 2018
softmax     exp(z) / sum(exp(z))                                   Bridle 1990
==========  ===============================================  ====  ====================

``sum`` goes over the units of a layer.
"""

# NumPy's stubs make Any of arithmetic on arrays of some float type.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn._types import Array

__all__ = ["ACTIVATIONS", "Activation"]

# Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", 2017
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946

# exp(-_FAR) is 0 in every dtype: from there on, gelu, silu and their derivatives have reached their
# limits, and stopping there spares inf * 0.
_FAR = 750.0


@dataclass(frozen=True)
class Activation:
    """A row of `ACTIVATIONS`.

    Parameters
    ----------
    name : str
    forward : callable
        ``h = forward(z, p)``.
    derivative : callable or None
        ``dh/dz = derivative(z, h, p)``, unit by unit; None for softmax, which mixes the units.
    parameter : float
        Default of ``p``; 0.0 where there is none.
    weight_init : str
        The initializer that suits it, a name of `fastnn.initializers.INITIALIZERS`.
    """

    name: str
    forward: Callable[[Array, float], Array]
    derivative: Callable[[Array, Array, float], Array] | None
    parameter: float = 0.0
    weight_init: str = "xavier_uniform"

    @property
    def code(self) -> int:
        """Number of the row, by which the compiled core knows the activation."""
        return list(ACTIVATIONS).index(self.name)

    def backward(self, z: Array, h: Array, grad: Array, p: float) -> Array:
        """Gradient with respect to ``z`` from ``grad``, that with respect to ``h``."""
        if self.derivative is not None:
            return grad * self.derivative(z, h, p)
        # The Jacobian of softmax is diag(h) - h hᵀ.
        return h * (grad - (grad * h).sum(axis=-1, keepdims=True))


def _identity(z: Array, p: float) -> Array:
    return z


def _identity_derivative(z: Array, h: Array, p: float) -> Array:
    return np.ones_like(z)


def _step(z: Array, p: float) -> Array:
    return np.heaviside(z, 0)


def _step_derivative(z: Array, h: Array, p: float) -> Array:
    return np.zeros_like(z)


def sigmoid(z: Array) -> Array:
    """``1 / (1 + exp(-z))``, without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, np.ones_like(z)) / (1 + e)


def _sigmoid(z: Array, p: float) -> Array:
    return sigmoid(z)


def _sigmoid_derivative(z: Array, h: Array, p: float) -> Array:
    return h * (1 - h)


def _tanh(z: Array, p: float) -> Array:
    return np.tanh(z)


def _tanh_derivative(z: Array, h: Array, p: float) -> Array:
    return 1 - h * h


def _relu(z: Array, p: float) -> Array:
    return np.maximum(z, 0)


def _relu_derivative(z: Array, h: Array, p: float) -> Array:
    return (z > 0).astype(z.dtype)


def _leaky_relu(z: Array, p: float) -> Array:
    return np.where(z > 0, z, p * z)


def _leaky_relu_derivative(z: Array, h: Array, p: float) -> Array:
    return np.where(z > 0, np.ones_like(z), np.full_like(z, p))


def _elu(z: Array, p: float) -> Array:
    return np.where(z > 0, z, p * np.expm1(np.minimum(z, 0)))


def _elu_derivative(z: Array, h: Array, p: float) -> Array:
    return np.where(z > 0, np.ones_like(z), h + p)


@np.errstate(over="ignore")  # the scale is above 1
def _selu(z: Array, p: float) -> Array:
    return _SELU_SCALE * _elu(z, _SELU_ALPHA)


def _selu_derivative(z: Array, h: Array, p: float) -> Array:
    return np.where(z > 0, np.full_like(z, _SELU_SCALE), h + _SELU_SCALE * _SELU_ALPHA)


def softplus(z: Array) -> Array:
    """``log(1 + exp(z))``, without overflow."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _softplus(z: Array, p: float) -> Array:
    return softplus(z)


def _softplus_derivative(z: Array, h: Array, p: float) -> Array:
    return sigmoid(z)


# (1 + erf(z / √2)) / 2, the distribution function of the normal distribution.  By erfc it is exact
# in the left tail too, where 1 + erf cancels.
_normal_distribution = np.vectorize(lambda z: math.erfc(-z / math.sqrt(2)) / 2, otypes=[np.float64])


def _gelu(z: Array, p: float) -> Array:
    near = np.maximum(z, -_FAR)
    return near * _normal_distribution(near).astype(z.dtype)


def _gelu_derivative(z: Array, h: Array, p: float) -> Array:
    near = np.clip(z, -_FAR, _FAR)
    density = np.exp(-near * near / 2) / math.sqrt(2 * math.pi)
    return _normal_distribution(near).astype(z.dtype) + near * density


def _silu(z: Array, p: float) -> Array:
    near = np.maximum(z, -_FAR)
    return near * sigmoid(near)


def _silu_derivative(z: Array, h: Array, p: float) -> Array:
    near = np.clip(z, -_FAR, _FAR)
    return sigmoid(near) * (1 + near * sigmoid(-near))


# A difference may overflow to -inf, whose exponential is right; inf - inf is NaN, as it should be.
@np.errstate(over="ignore", invalid="ignore")
def _softmax(z: Array, p: float) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Activation] = {
    row.name: row
    for row in (
        Activation("identity", _identity, _identity_derivative),
        Activation("step", _step, _step_derivative),
        Activation("sigmoid", _sigmoid, _sigmoid_derivative),
        Activation("tanh", _tanh, _tanh_derivative),
        Activation("relu", _relu, _relu_derivative, weight_init="he_normal"),
        Activation("leaky_relu", _leaky_relu, _leaky_relu_derivative, 0.01, "he_normal"),
        Activation("elu", _elu, _elu_derivative, 1.0, "he_normal"),
        Activation("selu", _selu, _selu_derivative, weight_init="lecun_normal"),
        Activation("softplus", _softplus, _softplus_derivative, weight_init="he_normal"),
        Activation("gelu", _gelu, _gelu_derivative, weight_init="he_normal"),
        Activation("silu", _silu, _silu_derivative, weight_init="he_normal"),
        Activation("softmax", _softmax, None),
    )
}
