"""Bad manifests: who signed them, what they say, and whether they are new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attacks.hostile.bending import (
    STRANGER,
    Make,
    Table,
    bent,
    manifest,
    named,
    one_weight,
    opened,
    outer,
    signed_by_one_key,
)
from attacks.hostile.world import NAMES, OTHERS, PLAN, TARGET, Moment, Scene
from consortium import Question, keys_of, plan_of, question

from fedcredit.envelope import encode_roster
from fedcredit.messages import NO_EPOCH
from fedcredit.parties import Member, Roster
from fedcredit.secagg.epoch import EPOCH_KEY_TAG

# --- who signed the manifest, and what it says -----------------------------------------------------------------------


def other_plan(**changes: Any) -> Make:
    """Announce a first set-up under a plan that differs in this from the approved one, in a run of its own."""

    def make(scene: Scene) -> Question:
        plan = plan_of(**{**PLAN, **changes})
        return question(scene.consortium, TARGET, plan=plan, run="another", purpose="setup", round=0, attempt=1)

    return make


def roster_with(change: Callable[[Roster], Roster], *, signed: bool = True) -> Make:
    def make(scene: Scene) -> Question:
        roster = change(scene.consortium.roster)
        named_in_manifest = {"roster_digest": roster.digest()} if signed else None
        return bent(scene.genuine(), manifest=named_in_manifest, fields={"roster": encode_roster(roster)})

    return make


def without_target(roster: Roster) -> Roster:
    return Roster(tuple(member for member in roster if member.institution != TARGET))


def with_other_keys(roster: Roster) -> Roster:
    mine = next(member for member in roster if member.institution == TARGET)
    forged = Member(institution=mine.institution, kind=mine.kind, public_identity=STRANGER.public.to_bytes())
    return Roster((forged, *without_target(roster)))


def with_others_exchanged(roster: Roster) -> Roster:
    mine = next(member for member in roster if member.institution == TARGET)
    others = [
        replace(member, public_identity=keys_of(60 + place).public.to_bytes())
        for place, member in enumerate(without_target(roster))
    ]
    return Roster((mine, *others))


def splice_signature(scene: Scene) -> Question:
    return bent(scene.genuine(), fields={"signature": opened(scene.earlier["upload"].asked).request.signature})


def splice_manifest(scene: Scene) -> Question:
    """Put the manifest of the round before, with its signature, around the weights and boxes of this one."""
    before = opened(scene.earlier["upload"].asked).request
    fields = {"manifest": before.manifest, "signature": before.signature}
    return named(bent(scene.genuine(), fields=fields), before.manifest)


def replayed(stage: str) -> Make:
    """Send once more, byte for byte, what was asked in the round before."""
    return lambda scene: scene.earlier[stage].asked


def once_more(**changes: Any) -> Make:
    """Ask for a second upload of the round and attempt that the member has answered already."""
    return lambda scene: question(scene.consortium, TARGET, round=scene.number, **changes)


def two_models(scene: Scene) -> Question:
    with scene.other_log():
        return once_more(weights=one_weight(scene, 0.5))(scene)


MANIFESTS: Table = {
    "a set-up that a stranger signed": (Moment.SETUP, "FC-3103", lambda it: bent(it.genuine(), signer=STRANGER)),
    "a set-up signed with the classic key only": (
        Moment.SETUP,
        "FC-3103",
        lambda it: signed_by_one_key(it.genuine(), post_quantum=False),
    ),
    "a set-up signed with the post-quantum key only": (
        Moment.SETUP,
        "FC-3103",
        lambda it: signed_by_one_key(it.genuine(), post_quantum=True),
    ),
    "a manifest that a stranger signed": (Moment.UPLOAD, "FC-3103", lambda it: bent(it.genuine(), signer=STRANGER)),
    "a manifest that its recipient signed": (
        Moment.UPLOAD,
        "FC-3103",
        lambda it: bent(it.genuine(), signer=it.site.keys),
    ),
    "a manifest signed with the classic key only": (
        Moment.UPLOAD,
        "FC-3103",
        lambda it: signed_by_one_key(it.genuine(), post_quantum=False),
    ),
    "a manifest signed with the post-quantum key only": (
        Moment.UPLOAD,
        "FC-3103",
        lambda it: signed_by_one_key(it.genuine(), post_quantum=True),
    ),
    "a manifest signed as an epoch key": (
        Moment.UPLOAD,
        "FC-3103",
        lambda it: bent(it.genuine(), tag=EPOCH_KEY_TAG),
    ),
    "a manifest with the signature of another": (Moment.UPLOAD, "FC-3103", splice_signature),
    "a later stage that a stranger signed": (Moment.REVEAL, "FC-3103", lambda it: bent(it.genuine(), signer=STRANGER)),
    "the consortium changed": (Moment.UPLOAD, "FC-3106", manifest(consortium="another")),
    "the plan's digest changed": (Moment.UPLOAD, "FC-3106", manifest(plan_digest=bytes(32))),
    "the roster's digest changed": (Moment.UPLOAD, "FC-3106", manifest(roster_digest=bytes(32))),
    "a smaller quorum": (Moment.UPLOAD, "FC-3106", manifest(quorum=1)),
    "a larger quorum": (Moment.UPLOAD, "FC-3106", manifest(quorum=4)),
    "a cohort below the minimum": (
        Moment.UPLOAD,
        "FC-3106",
        manifest(cohort=["bank-a", "bank-b"], ledger_heads=[bytes(32)] * 2),
    ),
    "a cohort below the minimum in a set-up": (
        Moment.SETUP,
        "FC-3106",
        manifest(cohort=["bank-a", "bank-b"], ledger_heads=[bytes(32)] * 2),
    ),
    "a cohort that is not the epoch's": (
        Moment.UPLOAD,
        "FC-3106",
        manifest(cohort=[*NAMES[:3]], ledger_heads=[bytes(32)] * 3),
    ),
    "a cohort without its recipient": (
        Moment.UPLOAD,
        "FC-2304",
        manifest(cohort=[*OTHERS], ledger_heads=[bytes(32)] * 3),
    ),
    "a stranger in the cohort": (
        Moment.UPLOAD,
        "FC-3106",
        manifest(cohort=[*NAMES, "stranger"], ledger_heads=[bytes(32)] * 5),
    ),
    "fewer ledger heads than members": (Moment.UPLOAD, "FC-3106", manifest(ledger_heads=[bytes(32)] * 3)),
    "a ledger head that the ledger lacks": (
        Moment.UPLOAD,
        "FC-4105",
        manifest(ledger_heads=[b"\1" * 32, *[bytes(32)] * 3]),
    ),
    "a deadline that is over": (Moment.UPLOAD, "FC-2303", manifest(deadline=999_999)),
    "another epoch": (Moment.UPLOAD, "FC-3113", manifest(epoch=b"\1" * 32)),
    "no epoch": (Moment.UPLOAD, "FC-3106", manifest(epoch=NO_EPOCH)),
    "a step whose masks were used": (
        Moment.UPLOAD,
        "FC-3113",
        lambda it: bent(it.genuine(), manifest={"step": it.hand.manifest.step - 1}),
    ),
    "a step beyond the epoch": (Moment.UPLOAD, "FC-3113", manifest(step=10_000)),
    "the round before": (
        Moment.UPLOAD,
        "FC-3105",
        lambda it: bent(it.genuine(), manifest={"round": it.number - 1}),
    ),
    "a round that the plan does not have": (Moment.UPLOAD, "FC-2302", manifest(round=501)),
    "an evaluation before the last round": (Moment.UPLOAD, "FC-2302", manifest(purpose="evaluate")),
    "a preparation that the plan does not have": (Moment.UPLOAD, "FC-2302", manifest(purpose="prepare")),
    "an upload in a set-up": (
        Moment.UPLOAD,
        "FC-3106",
        manifest(purpose="setup", round=0, attempt=9_000, epoch=NO_EPOCH),
    ),
    "an open answer in a secure round": (Moment.UPLOAD, "FC-3106", outer(stage="answer")),
    "another run of the same plan": (Moment.UPLOAD, "FC-2302", manifest(run="another")),
    "another run without a plan": (
        Moment.UPLOAD,
        "FC-3106",
        lambda it: bent(it.genuine(), manifest={"run": "another"}, fields={"plan": b"", "roster": b""}),
    ),
    "another plan than the manifest's": (
        Moment.UPLOAD,
        "FC-3106",
        outer(plan=plan_of(**{**PLAN, "training/clip": 2.0}).to_toml().encode()),
    ),
    "a plan that is no plan": (Moment.UPLOAD, "FC-1002", outer(plan=b"[run")),
    "a plan of an older schema": (
        Moment.UPLOAD,
        "FC-1004",
        outer(plan=plan_of(**PLAN).to_toml().replace("schema_version = 3", "schema_version = 2").encode()),
    ),
    "a roster that the manifest does not name": (Moment.UPLOAD, "FC-3106", roster_with(without_target, signed=False)),
    "a roster without its recipient": (Moment.UPLOAD, "FC-2304", roster_with(without_target)),
    "a roster with another key of its recipient": (Moment.UPLOAD, "FC-2304", roster_with(with_other_keys)),
    "a roster with other keys of everybody else": (Moment.UPLOAD, "FC-3204", roster_with(with_others_exchanged)),
    "a new roster in a set-up of the same run": (Moment.SETUP, "FC-3204", roster_with(with_others_exchanged)),
    "a set-up that names an epoch": (Moment.SETUP, "FC-3106", manifest(epoch=b"\1" * 32)),
    "a set-up of a round": (Moment.SETUP, "FC-2302", manifest(round=1)),
    "the set-up before": (Moment.SETUP, "FC-3105", lambda it: bent(it.genuine(), manifest={"attempt": 1})),
    "a second set-up of one number": (
        Moment.KEYS,
        "FC-3105",
        lambda it: bent(it.begun.keys(TARGET), manifest={"deadline": it.begun.manifest.deadline + 1}),
    ),
    "a plan with another epsilon": (
        Moment.SETUP,
        "FC-2301",
        other_plan(
            **{
                "privacy/mechanism": "rounded-gaussian",
                "privacy/accountant": "gdp",
                "privacy/epsilon": 8.0,
                "privacy/evaluation_epsilon": 1.0,
            }
        ),
    ),
    "a plan with another delta": (Moment.SETUP, "FC-2301", other_plan(**{"privacy/delta": 1e-4})),
    "a plan with another clip": (Moment.SETUP, "FC-2301", other_plan(**{"training/clip": 100.0})),
    "a plan with a lower threshold for shares": (
        Moment.SETUP,
        "FC-1004",
        lambda it: bent(
            it.genuine(),
            fields={"plan": plan_of(**PLAN).to_toml().replace("threshold = 3", "threshold = 2").encode()},
        ),
    ),
    "a plan with a colluder more": (Moment.SETUP, "FC-2301", other_plan(**{"privacy/colluders": 1})),
    "a plan with shorter lanes": (
        Moment.SETUP,
        "FC-2301",
        other_plan(aggregation={"kind": "secure", "threshold": 3, "lane_bits": 16, "update_bound": "none"}),
    ),
    "a plan with a quorum of everybody": (Moment.SETUP, "FC-2301", other_plan(**{"rounds/quorum": 4})),
    "a plan with fixed noise": (Moment.SETUP, "FC-4005", other_plan(**{"privacy/test_noise": True})),
    "a plan on another contract": (Moment.SETUP, "FC-3106", other_plan(**{"run/contract_digest": "0" * 64})),
    "a plan of another consortium": (Moment.SETUP, "FC-3106", other_plan(**{"run/consortium": "another"})),
    "a set-up under open aggregation": (
        Moment.SETUP,
        "FC-2302",
        other_plan(aggregation={"kind": "open", "update_bound": "none"}, **{"rounds/quorum": 4}),
    ),
    "the upload of the round before, replayed": (Moment.UPLOAD, "FC-3105", replayed("upload")),
    "the agreement of the round before, replayed": (Moment.ACCEPT, "FC-3106", replayed("accept")),
    "the reveal of the round before, replayed": (Moment.ACCEPT, "FC-3106", replayed("reveal")),
    "the manifest of the round before around this one's weights": (Moment.UPLOAD, "FC-3105", splice_manifest),
    "two manifests for one attempt": (Moment.ACCEPT, "FC-3105", once_more(deadline=2_000_000)),
    "two models in one round": (Moment.ACCEPT, "FC-3105", two_models),
    "an upload again after the agreement": (Moment.REVEAL, "FC-3105", once_more(deadline=2_000_000)),
}
