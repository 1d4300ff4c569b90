"""Which versions of the canonical data set this release speaks, and which one a consortium has in common.

A join request states the versions of its node, under its signature. A contract on canonical tables names one version.
The coordinator makes and starts a plan only if every member that it names has stated that version, and each node
refuses tables of another version than the contract's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fedcredit.errors import SchemaVersionError, phrase

SPOKEN: Final = (1,)
"""Schema versions that this release reads, newest last. A version is dropped only with a major release."""


def require_spoken(version: int) -> None:
    """Raise ``SchemaVersionError`` unless this release speaks the version."""
    if version not in SPOKEN:
        raise SchemaVersionError(asked=_version(version), spoken=_listed(SPOKEN))


def require_spoken_by(version: int, stated: Mapping[str, Iterable[int]]) -> None:
    """Raise ``SchemaVersionError`` unless every node of ``stated`` (node -> versions) speaks the version."""
    deaf = {node: versions for node, versions in stated.items() if version not in versions}
    if deaf:
        spoken = "; ".join(f"{node} {_listed(versions)}" for node, versions in sorted(deaf.items()))
        raise SchemaVersionError(asked=_version(version), spoken=spoken)


def newest_common(stated: Iterable[Iterable[int]]) -> int | None:
    """Return the newest version that everybody speaks, or ``None`` if there is none or nobody stated anything."""
    common = [frozenset(versions) for versions in stated]
    return max(frozenset.intersection(*common), default=None) if common else None


def _version(version: int) -> str:
    return phrase(en=f"version {version}", zh=str(version))


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions))) or phrase(en="none", zh="无")
