"""Features made from one row: a contract names the function, here is what it means.

Every function is row-wise: what it gives for a borrower depends on that borrower's cells alone, so using it releases
nothing. A name's meaning never changes, because the contract's digest covers the name only; a new meaning gets a new
name. Arrays are float64 with NaN for a missing cell: (n, T) per channel, oldest step first, or (n,) per column.

    same, ratio                                     columns or whole channels, cell by cell
    latest, previous, highest, mean,                one number of a channel's steps
    count_positive, count_zero, steps_since_positive
    latest_ratio, ratio_change, repaid_share        one number of the steps of two channels
    kernel_1_max, kernel_1_share ... kernel_8_share one number of a channel's steps, by a public random kernel

The kernels are an encoder of sequences that nothing has to be trained for (after ROCKET, Dempster, Petitjean, Webb
2020, arXiv:1910.13051): a short random filter runs over the steps, and what remains is its largest response and the
share of its responses above a threshold. ROCKET gives 10,000 filters to a linear model. Here are eight to choose from
by name: under noise every further feature takes weight or splits from the others. See ``Kernel``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_LARGEST: Final = 1e300
KERNELS: Final = 8
_KERNEL_LABEL: Final = "fedcredit sequence kernel 1"


def same(column: Numbers) -> Numbers:
    """Return the column itself, to give it a second, coarser grid."""
    return column


def latest(channel: Numbers) -> Numbers:
    """Return the newest step."""
    return channel[:, -1]


def previous(channel: Numbers) -> Numbers:
    """Return the step before the newest."""
    return channel[:, -2]


def highest(channel: Numbers) -> Numbers:
    """Return the largest step; a row with a missing step is missing."""
    largest: Numbers = channel.max(axis=1)
    return largest


def mean(channel: Numbers) -> Numbers:
    """Return the mean over the steps; a row with a missing step is missing."""
    average: Numbers = channel.mean(axis=1)
    return average


def count_positive(channel: Numbers) -> Numbers:
    """Return how many steps are above zero; a row with a missing step is missing."""
    return _unless_missing(channel, (channel > 0).sum(axis=1))


def count_zero(channel: Numbers) -> Numbers:
    """Return how many steps are exactly zero; a row with a missing step is missing."""
    return _unless_missing(channel, (channel == 0).sum(axis=1))


def steps_since_positive(channel: Numbers) -> Numbers:
    """Return how many steps ago the channel was last above zero: 0 for the newest, T if it never was."""
    positive = channel[:, ::-1] > 0
    return _unless_missing(channel, np.where(positive.any(axis=1), positive.argmax(axis=1), channel.shape[1]))


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole, cell by cell, at most 1e300 either way; missing where the whole is not above zero."""
    with np.errstate(over="ignore"):  # a whole just above zero: the quotient is cut off below
        quotient: Numbers = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return np.clip(quotient, -_LARGEST, _LARGEST)


def latest_ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole of the newest step; missing where that whole is not above zero."""
    return ratio(part[:, -1], whole[:, -1])


def ratio_change(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole of the newest step minus that of the oldest."""
    return latest_ratio(part, whole) - ratio(part[:, 0], whole[:, 0])


def repaid_share(payment: Numbers, bill: Numbers) -> Numbers:
    """Return all payments but the oldest over all positive bills but the newest.

    A payment settles the bill of the step before it. Missing where nothing was owed.
    """
    owed = np.maximum(bill[:, :-1], 0.0).sum(axis=1)
    return ratio(payment[:, 1:].sum(axis=1), owed)


@dataclass(frozen=True)
class Kernel:
    """A public random filter over three steps of a channel, ``dilation`` apart, oldest first.

    Its response is a mean of one or two of the steps minus a mean of the others, after x -> sign(x) log(1 + |x|). So
    a channel that does not move responds with exactly 0, a response is never larger than the channel's range on that
    scale, and of amounts far above 1 only their ratios count, not the currency: 0.69 is a doubling. Grid edges belong
    in [-2, 2] for amounts and statuses alike.
    """

    number: int
    weights: tuple[int, int, int]
    """Over ``half``; their sum is 0, and the positive ones sum to ``half``."""
    half: int
    bias: float
    """The threshold of ``share``, in (-1, 1)."""
    word: int
    """Decides the dilation, once the number of steps is known."""

    @classmethod
    def draw(cls, number: int) -> Kernel:
        """Return the kernel of that number: weights, bias and dilation from SHAKE-256 of a label, never from data.

        ROCKET's weights are centred too; uniform whole numbers stand in for its normal ones, so that a library's
        generator or rounding cannot change what a name means.
        """
        words = hashlib.shake_256(f"{_KERNEL_LABEL}/{number}".encode()).digest(40)
        first, second, third, bias, dilation = (
            int.from_bytes(words[place : place + 8], "little") for place in range(0, len(words), 8)
        )
        drawn = [word % 201 - 100 for word in (first, second, third)]
        centred = [3 * weight - sum(drawn) for weight in drawn]
        return cls(
            number=number,
            weights=(centred[0], centred[1], centred[2]),
            half=sum(weight for weight in centred if weight > 0),
            bias=(bias % 1999 - 999) / 1000,
            word=dilation,
        )

    def dilation(self, steps: int) -> int:
        """Return how far apart the three steps are in a channel of ``steps``: 1 or more, as far as they fit."""
        return 1 + self.word % max(1, (steps - 1) // 2)

    def responses(self, channel: Numbers) -> Numbers:
        """Return the response at every place where the filter fits, shape (n, T - 2 dilation).

        A channel of fewer than three steps is taken to begin with its oldest one.
        """
        oldest = np.repeat(channel[:, :1], max(0, 3 - channel.shape[1]), axis=1)
        steps = np.concatenate([oldest, channel], axis=1)
        steps = np.sign(steps) * np.log1p(np.abs(steps))
        apart = self.dilation(steps.shape[1])
        places = steps.shape[1] - 2 * apart
        first, second, third = (steps[:, start : start + places] for start in (0, apart, 2 * apart))
        # Differences, because the weights sum to 0: equal steps give exactly 0, whatever they are.
        result: Numbers = (self.weights[1] * (second - first) + self.weights[2] * (third - first)) / self.half
        return result

    def largest(self, channel: Numbers) -> Numbers:
        """Return the largest response; a row with a missing step is missing."""
        return _unless_missing(channel, self.responses(channel).max(axis=1))

    def share(self, channel: Numbers) -> Numbers:
        """Return the share of responses above the bias; a row with a missing step is missing."""
        return _unless_missing(channel, (self.responses(channel) > self.bias).mean(axis=1))


@dataclass(frozen=True)
class Derivation:
    """A function with the number of its inputs, what they are and what it gives."""

    function: Callable[..., Numbers]
    inputs: int
    kind: Literal["any", "sequence"]
    """``any`` takes columns or channels and keeps their shape; ``sequence`` makes one number of a channel's steps."""


def _kernel_features() -> dict[str, Derivation]:
    kernels = [Kernel.draw(number) for number in range(1, KERNELS + 1)]
    return {
        f"kernel_{kernel.number}_{name}": Derivation(function, 1, "sequence")
        for kernel in kernels
        for name, function in (("max", kernel.largest), ("share", kernel.share))
    }


DERIVATIONS: Final[Mapping[str, Derivation]] = MappingProxyType(
    {
        "same": Derivation(same, 1, "any"),
        "ratio": Derivation(ratio, 2, "any"),
        "latest": Derivation(latest, 1, "sequence"),
        "previous": Derivation(previous, 1, "sequence"),
        "highest": Derivation(highest, 1, "sequence"),
        "mean": Derivation(mean, 1, "sequence"),
        "count_positive": Derivation(count_positive, 1, "sequence"),
        "count_zero": Derivation(count_zero, 1, "sequence"),
        "steps_since_positive": Derivation(steps_since_positive, 1, "sequence"),
        "latest_ratio": Derivation(latest_ratio, 2, "sequence"),
        "ratio_change": Derivation(ratio_change, 2, "sequence"),
        "repaid_share": Derivation(repaid_share, 2, "sequence"),
        **_kernel_features(),
    }
)


def _unless_missing(channel: Numbers, summary: NDArray[np.integer | np.floating]) -> Numbers:
    return np.where(np.isnan(channel).any(axis=1), np.nan, summary.astype(np.float64))
