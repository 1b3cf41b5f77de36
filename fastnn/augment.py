"""Images a little different each time they are trained on.

They need SciPy: ``pip install "fastnn[augment]"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn._optional import needed
from fastnn._validation import as_rows, describe, fraction, integer, non_negative

__all__ = ["Images"]


class Images:
    """Moves, turns, zooms, blurs with noise and cuts holes into images, each by its own chance.

    It is a ``transform`` for `fastnn.data.ArrayBatches`.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of an image.
    shift : float, default 0.0
        By how many pixels at most, in both directions.
    rotate : float, default 0.0
        By how many degrees at most, either way.
    zoom : float, default 0.0
        By what part at most, ``0 <= zoom < 1``: 0.1 for sizes from 0.9 to 1.1.
    noise : float, default 0.0
        Standard deviation of what is added to each pixel.
    cut_out : int, default 0
        Side of a square that is set to 0, anywhere, also partly outside (DeVries and Taylor 2017).
    scale : float, default 1.0
        What the pixels are multiplied by first, as by 1 / 255.

    Raises
    ------
    ImportError
        If SciPy is not there.
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.augment import Images
    >>> images = np.eye(8).reshape(1, 8, 8)
    >>> Images((8, 8), shift=2, rotate=10)(images, np.random.default_rng(0)).shape
    (1, 64)
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        shift: float = 0.0,
        rotate: float = 0.0,
        zoom: float = 0.0,
        noise: float = 0.0,
        cut_out: int = 0,
        scale: float = 1.0,
    ) -> None:
        with needed("augmentation", "SciPy", "augment"):
            from scipy import ndimage
        self._affine_transform = ndimage.affine_transform
        if not isinstance(shape, (tuple, list)) or len(shape) != 2:
            raise ValueError(f"shape must be (rows, columns) of an image; got {describe(shape)}")
        rows, columns = (integer(f"shape[{i}]", side, 1) for i, side in enumerate(shape))
        self.shape = rows, columns
        self.shift = non_negative("shift", shift)
        self.rotate = non_negative("rotate", rotate)
        self.zoom = fraction("zoom", zoom)
        self.noise = non_negative("noise", noise)
        self.cut_out = integer("cut_out", cut_out, 0)
        self.scale = non_negative("scale", scale)

    def __call__(self, X: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return other images.

        Parameters
        ----------
        X : ndarray of shape (n, rows, columns) or (n, rows * columns)
            Images of any numbers.
        rng : numpy.random.Generator
            Draws what is done to each.

        Returns
        -------
        ndarray of float32, shape (n, rows * columns)

        Raises
        ------
        ValueError
            If the images are of another shape.
        """
        rows, columns = self.shape
        X = as_rows("X", X)
        n = len(X)
        if X.shape not in ((n, rows, columns), (n, rows * columns)):
            raise ValueError(f"X must hold images of shape {self.shape}; got shape {X.shape}")
        images = X.reshape(n, rows, columns).astype(np.float32) * np.float32(self.scale)
        if self.shift or self.rotate or self.zoom:
            images = self._moved(images, rng)
        if self.noise:
            images += np.float32(self.noise) * rng.standard_normal(images.shape, np.float32)
        if self.cut_out:
            self._cut(images, rng)
        return images.reshape(n, -1)

    def _moved(
        self, images: npt.NDArray[np.float32], rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Move, turn and zoom about the centre, in one go: interpolating twice blurs twice."""
        angles = np.radians(rng.uniform(-self.rotate, self.rotate, len(images)))
        sizes = rng.uniform(1 - self.zoom, 1 + self.zoom, len(images))
        shifts = rng.uniform(-self.shift, self.shift, (len(images), 2))
        cos, sin = np.cos(angles) / sizes, np.sin(angles) / sizes
        # ndimage wants the way back: which point of the old image each of the new one shows.
        matrices = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
        centre = (np.array(self.shape) - 1) / 2
        offsets = centre - np.einsum("nij,nj->ni", matrices, centre + shifts)
        moved = np.empty_like(images)
        for image, matrix, offset, out in zip(images, matrices, offsets, moved, strict=True):
            self._affine_transform(image, matrix, offset, output=out, order=1)
        return moved

    def _cut(self, images: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
        starts = rng.integers(1 - self.cut_out, self.shape, (len(images), 2))
        for image, (row, column) in zip(images, starts, strict=True):
            image[max(row, 0) : row + self.cut_out, max(column, 0) : column + self.cut_out] = 0
