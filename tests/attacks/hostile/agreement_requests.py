"""Bad selections and bad requests for shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cbor2
from attacks.hostile.bending import (
    Make,
    Table,
    bent,
    body,
    changed,
    opened_body,
)
from attacks.hostile.world import NAMES, OTHERS, TARGET, Moment, Scene
from consortium import COORDINATOR, Question

from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.wire import Selection

# --- agreement and shares --------------------------------------------------------------------------------------------


def selecting(change: Callable[[Selection], Selection]) -> Make:
    """Ask to agree to another selection, which the coordinator has signed."""
    return lambda scene: scene.hand.accept(TARGET, change(scene.hand.sum.select()))


def of_members(*names: str) -> Make:
    return lambda scene: scene.hand.accept(TARGET, scene.hand.selection(*names))


def signed_selection(data: Callable[[Scene], bytes]) -> Make:
    """Ask to agree to any bytes, which the coordinator has signed as a selection."""

    def make(scene: Scene) -> Question:
        encoded = data(scene)
        signature = sign(COORDINATOR, tag=SELECTION_TAG, body=encoded)
        return bent(scene.genuine(), body={"selection": encoded, "signature": signature})

    return make


def selection_of_the_round_before(scene: Scene) -> Question:
    """Splice the round before's selection, which was signed for it, into this round."""
    return bent(scene.genuine(), fields={"body": opened_body(scene, "accept")})


def revealing(change: Callable[[dict[str, bytes], Scene], dict[str, Any]]) -> Make:
    return lambda scene: scene.hand.reveal(TARGET, body=change(dict(scene.hand.signatures), scene))


def agreed(signatures: Mapping[str, bytes], *names: str) -> dict[str, Any]:
    return {"members": names, "signatures": tuple(signatures[name] for name in names)}


def before_its_own_agreement(scene: Scene) -> Question:
    return scene.hand.reveal(TARGET)


AGREEMENTS: Table = {
    "an agreement before the upload": (
        Moment.UPLOAD,
        "FC-3106",
        lambda it: it.hand.accept(TARGET, it.hand.selection(*OTHERS)),
    ),
    "an unsigned selection": (Moment.ACCEPT, "FC-3103", body(signature=bytes(64))),
    "a selection that a member signed": (
        Moment.ACCEPT,
        "FC-3103",
        lambda it: it.hand.accept(TARGET, selector=it.consortium.sites["bank-b"].keys),
    ),
    "a selection signed as an answer": (
        Moment.ACCEPT,
        "FC-3103",
        lambda it: bent(
            it.genuine(),
            body={"signature": sign(COORDINATOR, tag=ANSWER_TAG, body=it.hand.sum.select().to_bytes())},
        ),
    ),
    "the selection of the round before": (Moment.ACCEPT, "FC-3106", selection_of_the_round_before),
    "a selection for another manifest": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(lambda right: replace(right, manifest_digest=bytes(32))),
    ),
    "a selection of one": (Moment.ACCEPT, "FC-3115", of_members(TARGET)),
    "a selection below the minimum": (Moment.ACCEPT, "FC-3115", of_members("bank-a", "bank-b")),
    "a selection without its recipient": (Moment.ACCEPT, "FC-3115", of_members(*OTHERS)),
    "a stranger in the selection": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(lambda right: replace(right, members=(*right.members[:3], "stranger"))),
    ),
    "a member twice in the selection": (
        Moment.ACCEPT,
        "FC-3101",
        signed_selection(lambda it: changed(it.hand.sum.select().to_bytes(), {"members": ["bank-a"] * 4})),
    ),
    "a selection out of order": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(
            lambda right: replace(
                right, members=right.members[::-1], uploads=right.uploads[::-1], signatures=right.signatures[::-1]
            )
        ),
    ),
    "an upload less than members": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(lambda right: replace(right, uploads=right.uploads[:3])),
    ),
    "a signature less than members": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(lambda right: replace(right, signatures=right.signatures[:3])),
    ),
    "another upload of its recipient": (
        Moment.ACCEPT,
        "FC-3106",
        selecting(lambda right: replace(right, uploads=(bytes(32), *right.uploads[1:]))),
    ),
    "a byte after the selection": (
        Moment.ACCEPT,
        "FC-3101",
        signed_selection(lambda it: it.hand.sum.select().to_bytes() + b"\0"),
    ),
    "a selection of the version before": (
        Moment.ACCEPT,
        "FC-3101",
        signed_selection(lambda it: changed(it.hand.sum.select().to_bytes(), {"version": 2})),
    ),
    "a second selection in one attempt": (Moment.REVEAL, "FC-3105", of_members("bank-a", "bank-b", "fund-c")),
    "a cohort that differs by one from the one opened": (Moment.RETRY, "FC-3115", of_members(*NAMES)),
    "a cohort with one member exchanged for another": (
        Moment.RETRY,
        "FC-3115",
        of_members("bank-a", "bank-b", "insurer-d"),
    ),
    "shares asked for before its own agreement": (Moment.ACCEPT, "FC-3106", before_its_own_agreement),
    "shares asked for before the upload": (
        Moment.UPLOAD,
        "FC-3106",
        lambda it: bent(it.genuine(), fields={"stage": "reveal", "body": opened_body(it, "reveal")}),
    ),
    "shares asked for without any agreement": (Moment.REVEAL, "FC-3114", revealing(lambda mine, _: agreed(mine))),
    "shares asked for below the threshold": (
        Moment.REVEAL,
        "FC-3114",
        revealing(lambda mine, _: agreed(mine, "bank-a", "bank-b")),
    ),
    "one agreement counted three times": (
        Moment.REVEAL,
        "FC-3101",
        lambda it: bent(
            it.genuine(), body={"members": ["bank-b"] * 3, "signatures": [it.hand.signatures["bank-b"]] * 3}
        ),
    ),
    "a stranger's agreement": (
        Moment.REVEAL,
        "FC-3114",
        revealing(lambda mine, _: agreed({**mine, "stranger": mine["bank-b"]}, "bank-a", "fund-c", "stranger")),
    ),
    "one member's agreement for another": (
        Moment.REVEAL,
        "FC-3103",
        revealing(lambda mine, _: agreed({**mine, "fund-c": mine["bank-b"]}, "bank-a", "bank-b", "fund-c")),
    ),
    "an unsigned agreement": (
        Moment.REVEAL,
        "FC-3103",
        revealing(lambda mine, _: agreed({**mine, "fund-c": bytes(64)}, "bank-a", "bank-b", "fund-c")),
    ),
    "uploads' signatures for agreements": (
        Moment.REVEAL,
        "FC-3103",
        revealing(lambda _, it: {"signatures": it.hand.sum.select().signatures}),
    ),
    "agreements of the round before": (
        Moment.REVEAL,
        "FC-3106",
        lambda it: bent(it.genuine(), fields={"body": opened_body(it, "reveal")}),
    ),
    "agreements of the round before for this selection": (
        Moment.REVEAL,
        "FC-3103",
        lambda it: bent(it.genuine(), body={"signatures": cbor2.loads(opened_body(it, "reveal"))["signatures"]}),
    ),
    "shares of another selection": (Moment.REVEAL, "FC-3106", revealing(lambda *_: {"selection": bytes(32)})),
    "an agreement less than members": (
        Moment.REVEAL,
        "FC-3106",
        revealing(lambda mine, _: {"signatures": tuple(mine.values())[:3]}),
    ),
    "a box too few": (Moment.REVEAL, "FC-3101", revealing(lambda _, it: {"boxes": it.hand.sum.boxes_for(TARGET)[:2]})),
    "a box too many": (
        Moment.REVEAL,
        "FC-3101",
        revealing(lambda _, it: {"boxes": (*it.hand.sum.boxes_for(TARGET), b"")}),
    ),
}
