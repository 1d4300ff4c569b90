"""Shamir's secret sharing (CACM 22(11), 1979) over the prime 2^256 + 297: 32-byte secrets, 33-byte shares.

Holder ``h`` (from 0) has the value at ``h + 1`` of a polynomial of degree below ``threshold`` whose value at 0 is the
secret. All other coefficients are uniform, so fewer than ``threshold`` shares say nothing about it.

Python integers are not constant-time (PROTOCOL.md 10): whoever shares the dealer's machine is out of scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import prod
from operator import add, mul
from typing import Final

import numpy as np

from fedcredit.crypto.streams import KeyStream, fresh_key
from fedcredit.errors import ReconstructionError

PRIME: Final = 2**256 + 297
SECRET_LENGTH: Final = 32
SHARE_LENGTH: Final = 33
"""A share is a number below ``PRIME``, big-endian."""
MAX_HOLDERS: Final = 128
MAX_SUBSETS: Final = 1024
"""Most subsets of shares that ``reconstruct`` tries for one secret."""
_DRAWN: Final = 48
"""Bytes of keystream for a coefficient: modulo the prime, its distance from uniform is below 2^-127."""
_SLOT: Final = 64
"""Bytes of one value in a packed integer. A value never exceeds 2^384 * 2^MAX_HOLDERS = 2^512: see ``deal``."""
_SHARES_SLOT: Final = 66
"""The same for sums of weighted shares: MAX_HOLDERS of them, each below 2^264 * 2^257, stay below 2^528."""


def deal(
    secrets: Sequence[bytes], *, threshold: int, holders: int, entropy: Callable[[int], bytes]
) -> list[list[bytes]]:
    """Return the shares of each holder: ``deal(...)[holder][secret]``, 33 bytes each.

    The polynomial of a secret s is s + sum of c_k * binomial(x, k) for k = 1 .. threshold - 1. The binomials span the
    same polynomials as the powers of x, and k! has an inverse, so uniform c_k make the polynomial uniform; but its
    values at 1, 2, 3, ... need additions only (Newton's forward differences). The secrets lie side by side in one
    integer, so that one addition serves all. Nothing is reduced before the end: after x steps a value is a sum of
    c_k * binomial(x, k) over some k, hence below 2^384 * 2^x, and no value reaches its neighbour.

    c_k of secret number i is bytes 48 * ((k - 1) * len(secrets) + i) onwards of one fresh keystream, big-endian.

    Args:
        secrets: any number, 32 bytes each.
        threshold: how many shares give a secret back, 2 to ``holders``.
        holders: at most ``MAX_HOLDERS``.
        entropy: for example ``os.urandom``; asked once for 32 bytes.

    Raises:
        ValueError: a secret has another length, or the numbers contradict the above.
    """
    _require_access(threshold=threshold, holders=holders)
    if any(len(secret) != SECRET_LENGTH for secret in secrets):
        raise ValueError(f"a secret has {SECRET_LENGTH} bytes")
    differences = _packed_coefficients(secrets, threshold=threshold, entropy=entropy)
    shares = []
    for _ in range(holders):
        differences = [*map(add, differences, differences[1:]), differences[-1]]
        shares.append(_unpacked(differences[0], count=len(secrets)))
    return shares


class Interpolation:
    """How the shares of certain holders give secrets back; made once and used for all secrets of the same holders.

    Args:
        holders: from 0, as many as the threshold, each once.

    Raises:
        ValueError: there is no holder, one comes twice, or one is out of range.
    """

    def __init__(self, holders: Sequence[int]) -> None:
        if not holders or len(set(holders)) != len(holders):
            raise ValueError("an interpolation needs holders, each once")
        _require_in_range(holders)
        self.holders = tuple(holders)
        points = [holder + 1 for holder in holders]
        self._scales = [pow(prod(mine - other for other in points if other != mine), -1, PRIME) for mine in points]
        self._weights = self._weights_at(0)

    def secrets(self, rows: Sequence[Sequence[bytes]]) -> list[bytes | None]:
        """Return many secrets at once: ``rows[i][j]`` is the share of ``holders[i]`` of secret j.

        The shares of a holder lie side by side in one integer, so that one multiplication serves all. ``None`` stands
        for a secret that needs a closer look (``reconstruct``): its shares give no 32-byte number, or one of them is
        2^256 or more, as honest ones never are but by a chance of 2^-248. Shares that do not belong together give some
        other secret or ``None``: compare each with its commitment.

        Raises:
            ValueError: there are more or fewer rows than holders, rows of different lengths, or a share has not 33
                bytes.
        """
        count = len(rows[0]) if rows else 0
        packed, large = 0, np.zeros(count, dtype=np.bool_)
        for weight, shares in zip(self._weights, rows, strict=True):
            slots = np.zeros((count, _SHARES_SLOT), dtype=np.uint8)
            slots[:, -SHARE_LENGTH:] = np.frombuffer(b"".join(shares), np.uint8).reshape(count, SHARE_LENGTH)
            large |= slots[:, -SHARE_LENGTH] != 0
            packed += weight * int.from_bytes(slots.tobytes(), "big")
        sums = packed.to_bytes(count * _SHARES_SLOT, "big")
        found: list[bytes | None] = []
        for place in range(count):
            number = int.from_bytes(sums[place * _SHARES_SLOT : (place + 1) * _SHARES_SLOT], "big") % PRIME
            unsure = large[place] or number >> (8 * SECRET_LENGTH)
            found.append(None if unsure else number.to_bytes(SECRET_LENGTH, "big"))
        return found

    def _value_at(self, point: int, values: Sequence[int]) -> int:
        """Return the value at ``point``, which is no holder of these, of the polynomial through ``values``."""
        return _combine(self._weights_at(point), values)

    def _weights_at(self, point: int) -> list[int]:
        distances = [point - holder - 1 for holder in self.holders]
        whole = prod(distances)
        return [whole // distance * scale % PRIME for distance, scale in zip(distances, self._scales, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """A secret that fits its commitment, and the holders whose shares do not lie on the polynomial that gave it."""

    secret: bytes
    wrong: frozenset[int]
    """Not a proof of guilt. The dealer may have dealt those shares; and once more than (m - threshold) / 2 of m shares
    are wrong, holders who collude can choose theirs so that honest ones lie off the polynomial."""


def reconstruct(
    shares: Mapping[int, bytes], *, threshold: int, holds: Callable[[bytes], bool], what: str
) -> Reconstructed:
    """Return the secret that ``holds`` accepts although some of ``shares`` may be wrong, and which shares those are.

    It takes the first ``threshold`` shares; if they do not fit, it leaves out groups so that every set of 1, 2, 3, ...
    wrong shares is avoided by some subset, up to ``MAX_SUBSETS`` subsets: any 4 wrong of 50 shares at threshold 34, any
    3 of 20 at 14, and all that the threshold allows of 10 shares or fewer. A share that is not a 33-byte number below
    ``PRIME`` is wrong from the start. If another polynomial could have as many shares on it, the search goes on and
    the one with most shares names the wrong ones.

    Args:
        shares: by the number of the holder, from 0.
        threshold: the one they were dealt with.
        holds: compares a candidate of 32 bytes with its commitment.
        what: names the secret to the operator.

    Raises:
        ReconstructionError: fewer than ``threshold`` usable shares, or no subset that was tried fits the commitment.
        ValueError: a holder or ``threshold`` is out of range.
    """
    _require_access(threshold=threshold, holders=MAX_HOLDERS)
    _require_in_range(shares)
    numbers = {holder: _number(share) for holder, share in sorted(shares.items())}
    values = {holder: number for holder, number in numbers.items() if number is not None}
    if len(values) < threshold:
        raise ReconstructionError(what=what, problem=f"{len(values)} of {threshold} needed shares are usable")
    best: Reconstructed | None = None
    for found in _findings(values, threshold=threshold, holds=holds):
        if best is None or len(found.wrong) < len(best.wrong):
            best = found
        # Two polynomials share fewer than threshold points: here, no other can have as many of the shares on it.
        if 2 * len(found.wrong) <= len(values) - threshold:
            break
    if best is None:
        raise ReconstructionError(what=what, problem="no subset of its shares fits its commitment")
    return Reconstructed(secret=best.secret, wrong=best.wrong | (shares.keys() - values.keys()))


def _findings(values: Mapping[int, int], *, threshold: int, holds: Callable[[bytes], bool]) -> Iterator[Reconstructed]:
    """Yield what each subset says whose secret ``holds``, with the holders off its polynomial."""
    for subset in islice(_subsets(list(values), threshold=threshold), MAX_SUBSETS):
        interpolation = Interpolation(subset)
        ours = [values[holder] for holder in subset]
        number = _combine(interpolation._weights, ours)
        if number >> (8 * SECRET_LENGTH) or not holds(secret := number.to_bytes(SECRET_LENGTH, "big")):
            continue
        others = values.keys() - set(subset)
        wrong = (holder for holder in others if interpolation._value_at(holder + 1, ours) != values[holder])
        yield Reconstructed(secret=secret, wrong=frozenset(wrong))


def _subsets(holders: Sequence[int], *, threshold: int) -> Iterator[Sequence[int]]:
    """Yield ``threshold`` holders at a time: for w = 0, 1, 2, ... some subset avoids every set of w holders.

    The holders are cut into groups so small that w groups can be spared, and every w groups are left out once.
    """
    yield holders[:threshold]
    spare = len(holders) - threshold
    for count in range(1, spare + 1):
        size = spare // count
        groups = [frozenset(holders[start : start + size]) for start in range(0, len(holders), size)]
        for left_out in combinations(groups, count):
            avoided = frozenset[int]().union(*left_out)
            yield [holder for holder in holders if holder not in avoided][:threshold]


def _packed_coefficients(secrets: Sequence[bytes], *, threshold: int, entropy: Callable[[int], bytes]) -> list[int]:
    """Return the secrets and the coefficients 1 .. threshold - 1 of all polynomials, each degree in one integer."""
    rows = np.zeros((threshold, len(secrets), _SLOT), dtype=np.uint8)
    rows[0, :, _SLOT - SECRET_LENGTH :] = np.frombuffer(b"".join(secrets), np.uint8).reshape(-1, SECRET_LENGTH)
    drawn = KeyStream(fresh_key(entropy)).bytes((threshold - 1) * len(secrets) * _DRAWN)
    rows[1:, :, _SLOT - _DRAWN :] = drawn.reshape(threshold - 1, len(secrets), _DRAWN)
    return [int.from_bytes(row.tobytes(), "big") for row in rows]


def _unpacked(packed: int, *, count: int) -> list[bytes]:
    slots = packed.to_bytes(count * _SLOT, "big")
    return [
        (int.from_bytes(slots[start : start + _SLOT], "big") % PRIME).to_bytes(SHARE_LENGTH, "big")
        for start in range(0, len(slots), _SLOT)
    ]


def _number(share: bytes) -> int | None:
    """Return the number that ``share`` writes, or nothing if it is no share."""
    number = int.from_bytes(share, "big")
    return number if len(share) == SHARE_LENGTH and number < PRIME else None


def _combine(weights: Sequence[int], values: Sequence[int]) -> int:
    total: int = sum(map(mul, weights, values))
    return total % PRIME


def _require_access(*, threshold: int, holders: int) -> None:
    if not 2 <= threshold <= holders <= MAX_HOLDERS:
        raise ValueError(
            f"2 <= threshold <= holders <= {MAX_HOLDERS} does not hold for threshold {threshold}, holders {holders}"
        )


def _require_in_range(holders: Iterable[int]) -> None:
    if any(not 0 <= holder < MAX_HOLDERS for holder in holders):
        raise ValueError(f"a holder has a number from 0 to {MAX_HOLDERS - 1}")
