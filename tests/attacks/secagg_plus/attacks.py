"""The attacks, by what goes wrong. Each returns the victim's private vector as far as it got, or raises."""

from __future__ import annotations

from collections.abc import Iterable

from attacks.secagg_plus import mersenne
from attacks.secagg_plus.target import Residues, Target, Vector


class NothingFoundError(LookupError):
    """No seed that was tried explains the upload."""


def name_in_both_lists(target: Target, victim: str) -> Vector:
    """Ask for the victim's own mask because it lives, and for its pair masks because it is dead."""
    upload = target.uploads()[victim]
    target.ask(living=target.names, dead=[victim])
    return target.decode(upload - target.known_masks(victim))


def swap_public_keys(target: Target, victim: str) -> Vector:
    """Sit between the victim and everybody else while keys are exchanged; ask nobody anything afterwards."""
    target.swap_keys(victim)
    upload = target.uploads()[victim]
    return target.decode(upload - target.known_masks(victim))


def lower_the_threshold(target: Target, victim: str, *, colluder: str) -> Vector:
    """State that one share opens a secret, and read the colluder's."""
    target.corrupt(colluder)
    target.state_threshold(1)
    upload = target.uploads()[victim]
    return target.decode(upload - target.known_masks(victim))


def finish_honestly(target: Target, victim: str) -> Vector:
    """Do what every coordinator does and no more: the control, which must not yield the vector."""
    upload = target.uploads()[victim]
    target.ask(living=target.names, dead=[])
    return target.decode(upload - target.known_masks(victim))


def search_for_seed(target: Target, victim: str, *, colluder: str, seeds: Iterable[Residues]) -> Vector:
    """Search the 32-bit seeds for the one mask that an honest round of three with one colluder leaves unknown.

    The upload minus the known masks is the vector plus or minus one stream. The first word sorts out nearly all seeds,
    the whole stream the rest.

    Raises:
        NothingFoundError: none of the seeds leaves a plausible vector.
    """
    target.corrupt(colluder)
    upload = target.uploads()[victim]
    target.ask(living=target.names, dead=[])
    rest = upload - target.known_masks(victim)
    for block in seeds:
        words = mersenne.first_words(block)
        survivors = block[target.plausible(rest[0] - words) | target.plausible(rest[0] + words)]
        for seed in survivors.tolist():
            stream = mersenne.stream(seed, len(rest))
            for candidate in (rest - stream, rest + stream):
                if target.plausible(candidate).all():
                    return target.decode(candidate)
    raise NothingFoundError
