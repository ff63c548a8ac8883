"""Which axes of a leaf are the rows and columns of a matrix: declared by a word for each axis, never guessed.

"in,out" is a kernel of Flax, $y = xW$, and "out,in" a weight of PyTorch. Axes of one word are taken together, as those
of a convolution's kernel "in,in,in,out" (height, width, channels). Along "batch" axes each matrix is one of its own:
scanned layers and experts are "batch,in,out", and the heads of an attention's kernel (in, heads, size) "in,batch,out".
A fused axis is cut: "in,out/3" is three matrices side by side, queries, keys and values; those of grouped queries have
other sizes, "in,out/1024+256+256".
"""

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from .._annotations import Array

WORDS = ("batch", "in", "out")


class Axes(NamedTuple):
    """The axes of a leaf whose matrices are known.

    Attributes:
        layout: as it was declared, without spaces.
        words: what each axis is: "batch", "in" or "out".
        parts: how many equal parts the outputs are cut into, or the sizes of all parts.
    """

    layout: str
    words: tuple[str, ...]
    parts: int | tuple[int, ...] = 1

    @property
    def order(self) -> list[int]:
        """The axes in the order batch, in, out."""
        return sorted(range(len(self.words)), key=lambda axis: WORDS.index(self.words[axis]))

    def sizes(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """How many matrices there are before cutting, their inputs and outputs."""
        each = [math.prod(n for n, own in zip(shape, self.words, strict=True) if own == word) for word in WORDS]
        return each[0], each[1], each[2]

    def misfit(self, shape: Sequence[int]) -> str:
        """Why a leaf of this shape is no matrices of this layout; "" if it is."""
        if len(shape) != len(self.words):
            return f"a leaf of shape {tuple(shape)} is not {self.layout!r}, which is a word for each axis"
        outs, parts = self.sizes(shape)[2], self.parts
        if (outs % parts) if isinstance(parts, int) else (sum(parts) != outs):
            return f"the {outs} outputs of a leaf of shape {tuple(shape)} cannot be cut as {self.layout!r} says"
        return ""

    def stacks(self, x: Array) -> list[Array]:
        """The matrices of a leaf: arrays of shape (number, in, out), one for each size that matrices have.

        Raises:
            ValueError: the leaf has other axes.
        """
        if why := self.misfit(x.shape):
            raise ValueError(
                f"{why}: declare its axes by `layout`, or leave it to another optimizer, as adamx.muon does"
            )
        number, ins, outs = self.sizes(x.shape)
        whole = x.transpose(self.order).reshape(number, ins, outs)
        if not isinstance(self.parts, int):
            return jnp.split(whole, [sum(self.parts[:i]) for i in range(1, len(self.parts))], axis=2)
        apart = whole.reshape(number, ins, self.parts, outs // self.parts)
        return [apart.transpose(0, 2, 1, 3).reshape(number * self.parts, ins, outs // self.parts)]

    def leaf(self, stacks: Sequence[Array], shape: Sequence[int]) -> Array:
        """The inverse of `stacks`, for a leaf of this shape."""
        number, ins, outs = self.sizes(shape)
        if isinstance(self.parts, int):
            whole = stacks[0].reshape(number, self.parts, ins, outs // self.parts).transpose(0, 2, 1, 3)
        else:
            whole = jnp.concatenate(stacks, axis=2)
        order = self.order
        back = sorted(range(len(order)), key=order.__getitem__)
        return whole.reshape([shape[axis] for axis in order]).transpose(back)

    def with_one_input(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of a mean over inputs."""
        return tuple(1 if word == "in" else n for n, word in zip(shape, self.words, strict=True))


@functools.cache
def axes(layout: str) -> Axes:
    """The axes that a layout declares.

    Raises:
        TypeError: it is no string.
        ValueError: it has other words, or misses "in" or "out".
    """
    if not isinstance(layout, str):
        raise TypeError(f'layout = {layout!r} should be a word for each axis, such as "in,out"')
    words, cuts = [], []
    for axis in layout.replace(" ", "").split(","):
        word, _, cut = axis.partition("/")
        words.append(word)
        cuts += [cut] if cut else []
        if word not in WORDS or (cut and (word != "out" or not re.fullmatch(r"[1-9]\d*(\+[1-9]\d*)*", cut))):
            raise ValueError(
                f'layout = {layout!r}: {axis!r} should be "batch", "in", "out" or "out/3", which cuts outputs in three'
            )
    if not {"in", "out"} <= {*words} or len(cuts) > 1:
        raise ValueError(
            f'layout = {layout!r} needs an "in" and an "out", and cuts one axis at most, as "in,out/3" does'
        )
    sizes = [int(n) for n in (cuts or ["1"])[0].split("+")]
    return Axes(layout.replace(" ", ""), tuple(words), sizes[0] if len(sizes) == 1 else tuple(sizes))
