"""A coordinator that invents all members but one: a sum, less what it knows of its puppets, is the victim's update.

Secure aggregation cannot tell puppets from institutions; the approved plan can, because it names every member's keys.
The control lets the victim approve the puppets' keys: then the coordinator reads its update exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from consortium import NO_PRIVACY, RUN, SECURE, Consortium, HandRound, HandSetup, identity_of, keys_of, plan_of

from fedcredit.config.plan import RunPlan
from fedcredit.messages import Refusal
from fedcredit.parties import InstitutionType, Member, Roster

VICTIM = "bank-a"
POLICY = {"allow_no_privacy": True}
FIRST_PUPPET = 120
"""The keys of the puppets are the coordinator's own."""


def puppet_plan() -> RunPlan:
    """Return the plan of the real consortium with the puppets' keys in place of the real ones."""
    real = plan_of(**{**SECURE, **NO_PRIVACY})
    raw = real.model_dump()
    for place, name in enumerate(raw["institutions"]):
        if name != VICTIM:
            raw["institutions"][name]["identity"] = identity_of(FIRST_PUPPET - 10 + place)
    return RunPlan.model_validate(raw)


def surrounded(folder: Path, approved: RunPlan) -> Consortium:
    """Return one real institution, which has approved ``approved``, among puppets that agree to everything."""
    victim = Consortium.make(folder / "real", approved, policy=POLICY, rows=30).sites[VICTIM]
    staged = Consortium.make(folder / "staged", approved, policy=POLICY, rows=30)
    for place, site in enumerate(staged.sites.values()):
        if site.name != VICTIM:
            site.keys = keys_of(FIRST_PUPPET + place)
            site.assemble()
    staged.sites[VICTIM] = victim
    staged.roster = Roster(
        tuple(
            Member(institution=site.name, kind=InstitutionType.BANK, public_identity=site.keys.public.to_bytes())
            for site in staged.sites.values()
        )
    )
    return staged


def test_an_institution_sends_nothing_to_members_whose_keys_its_plan_does_not_name(tmp_path: Path) -> None:
    staged = surrounded(tmp_path, plan_of(**{**SECURE, **NO_PRIVACY}))
    answer = HandSetup.of(staged).keys(VICTIM).answer()
    assert isinstance(answer, Refusal)
    assert answer.code == "FC-3204"


@pytest.mark.parametrize("invented", ["bank-b", "fund-c", "insurer-d"])
def test_a_single_invented_member_is_enough_to_refuse(tmp_path: Path, invented: str) -> None:
    # Each puppet counts as a colluder that the plan does not count.
    real = Consortium.make(tmp_path, plan_of(**{**SECURE, **NO_PRIVACY}), policy=POLICY, rows=30)
    puppet = keys_of(FIRST_PUPPET).public.to_bytes()
    members = [
        Member(institution=member.institution, kind=member.kind, public_identity=puppet)
        if member.institution == invented
        else member
        for member in real.roster
    ]
    answer = HandSetup.of(real, roster=Roster(tuple(members))).keys(VICTIM).answer()
    assert isinstance(answer, Refusal)
    assert answer.code == "FC-3204"


def test_the_attack_lives_where_the_institution_has_approved_the_puppets_keys(tmp_path: Path) -> None:
    staged = surrounded(tmp_path, puppet_plan())
    assert staged.epoch(RUN) is not None
    total = HandRound.of(staged).uploaded().agreed().revealed().sum.open().values
    weights = staged.family.initial_weights()

    def update(name: str) -> np.ndarray:
        site = staged.sites[name]
        computation = staged.family.computation(staged.plan, site.name, site.holdings.split(staged.plan).train)
        return computation.integer_sum(weights, round_number=1, batch=None).values

    of_puppets = sum(update(name) for name in staged.sites if name != VICTIM)
    assert update(VICTIM).any()
    assert ((total - of_puppets) == update(VICTIM)).all()
