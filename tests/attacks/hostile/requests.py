"""Bad requests to an institution: all tables, and clocks that go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attacks.hostile.agreement_requests import AGREEMENTS
from attacks.hostile.manifest_requests import MANIFESTS
from attacks.hostile.round_requests import MODELS, SETUPS
from attacks.hostile.wire_requests import FORMS, SEALS
from attacks.hostile.world import Moment, Scene
from consortium import Question

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    moment: Moment
    code: str
    make: Callable[[Scene], Question]
    ahead: float = 0.0
    """Seconds by which the member's clock is ahead of the coordinator's."""


CLOCKS: Mapping[str, tuple[Moment, str, float]] = {
    "a set-up that comes an hour late": (Moment.SETUP, "FC-2303", HOUR),
    "keys that come an hour late": (Moment.KEYS, "FC-2303", HOUR),
    "a round that comes an hour late": (Moment.UPLOAD, "FC-2303", HOUR),
    "a selection that comes an hour late": (Moment.ACCEPT, "FC-2303", HOUR),
    "agreements that come an hour late": (Moment.REVEAL, "FC-2303", HOUR),
    "a round to a member whose clock was set back an hour": (Moment.UPLOAD, "FC-4107", -HOUR),
}

TABLES = (SEALS, FORMS, MANIFESTS, MODELS, SETUPS, AGREEMENTS)
BAD_REQUESTS: Mapping[str, BadRequest] = {
    name: BadRequest(moment=moment, code=code, make=make)
    for table in TABLES
    for name, (moment, code, make) in table.items()
} | {
    name: BadRequest(moment=moment, code=code, make=Scene.genuine, ahead=ahead)
    for name, (moment, code, ahead) in CLOCKS.items()
}
LISTED = sum(map(len, (*TABLES, CLOCKS)))
"""Lines of the tables; as many as there are names, unless two of them use one name."""
