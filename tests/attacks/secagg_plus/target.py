"""What an attacker may do to one round of secure aggregation, whatever the protocol is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Residues = NDArray[np.uint32]
"""A vector modulo 2^32, as it crosses the wire; sums and differences wrap."""
Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

Lost = Literal["shares", "upload"]
"""When a member falls silent: its keys are out but its shares never come, or its masked vector never comes."""


class HaltedRoundError(Exception):
    """The round ended without a sum; ``complaints`` says which member raised what."""

    def __init__(self, complaints: Mapping[str, str]) -> None:
        super().__init__("the round halted")
        self.complaints = dict(complaints)


class Target(Protocol):
    """One round over private vectors. The attacker is the coordinator and carries every message; members are honest.

    Every move is made with the protocol's own messages. A protocol that sees through a move raises its own error, and
    the attack ends there. A target serves one attack.
    """

    names: tuple[str, ...]
    """All members, in any order."""

    def corrupt(self, name: str) -> None:
        """Make ``name`` hand the attacker its keys, seeds and the shares it holds, now and later."""

    def swap_keys(self, victim: str) -> None:
        """From now on, replace every key that crosses between ``victim`` and the others by one of the attacker's."""

    def state_threshold(self, threshold: int) -> None:
        """Tell the members that ``threshold`` shares open a secret."""

    def uploads(self) -> Mapping[str, Residues]:
        """Run the round up to the masked vectors and return each one as its sender sent it."""

    def ask(self, *, living: Collection[str], dead: Collection[str]) -> None:
        """Ask every member for its shares: of the own mask of the ``living``, of the pair masks of the ``dead``.

        A protocol that has no single message for it gets two, one for each half.
        """

    def known_masks(self, victim: str) -> Residues:
        """Return the sum of those masks in ``victim``'s upload that the attacker can compute from what it holds."""

    def plausible(self, residues: Residues) -> Flags:
        """Say of each residue whether it can be a coordinate without a mask; most residues cannot."""

    def decode(self, residues: Residues) -> Vector:
        """Return the vector that one member's unmasked upload stands for."""

    def numbers_in_clear(self, victim: str) -> Mapping[str, float]:
        """Return every number that a carrier reads beside ``victim``'s masked vector, by its name in the message."""

    def finish(self, *, lost: Mapping[str, Lost]) -> Vector:
        """Finish as an honest coordinator and return the weighted mean over the members whose vectors came.

        Raises:
            HaltedRoundError: no sum came out.
        """
