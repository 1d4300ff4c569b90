"""Who is on whose book."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.generate import plan
from fedcredit.simulator.records import Block
from fedcredit.simulator.repayment import DEFAULT

BANKS = ("B1", "B2", "B3")


def _tokens(block: Block, name: str, rows=None):
    records = block.lenders[name]
    chosen = records.book.terms.accepted if rows is None else rows
    return set(records.book.vehicles.token[chosen].tolist())


def test_every_guaranteed_contract_is_on_one_banks_book_with_the_same_history(block: Block) -> None:
    for fund in ("G1", "G2"):
        records = block.lenders[fund]
        accepted = records.take(records.book.terms.accepted)
        found = {}
        for bank in BANKS:
            copies = block.lenders[bank].take(block.lenders[bank].guaranteed)
            for row, token in enumerate(copies.book.vehicles.token.tolist()):
                found.setdefault(token, []).append((bank, copies.histories.states[row], copies.contract[row]))
        for row, token in enumerate(accepted.book.vehicles.token.tolist()):
            [(_, states, contract)] = found[token]
            assert np.array_equal(states, accepted.histories.states[row])
            assert contract != accepted.contract[row]


def test_the_number_of_accepted_contracts_is_that_of_the_plan(planned, block: Block) -> None:
    for name, count in planned.accepted[0].items():
        records = block.lenders[name]
        own = ~records.guaranteed if name in BANKS else np.ones(len(records), dtype=bool)
        assert records.book.terms.accepted[own].sum() == count


def test_a_second_pledge_is_the_same_vehicle_and_owner_at_another_member_and_finds_no_collateral() -> None:
    block = plan("double_pledge", "ci", 11).block(0)
    first, second = {}, []
    for name, records in block.lenders.items():
        if name.startswith("I"):
            continue
        own = ~records.guaranteed | (records.kind == "guarantee_fund")
        pledged, terms = records.book.terms.pledged, records.book.terms
        for row in np.flatnonzero(own & (pledged == 1)):
            first[records.book.vehicles.token[row]] = (name, records.book.people.token[row])
        second += [(name, records, row) for row in np.flatnonzero(own & (pledged == 2))]
        assert not records.recoveries.seized[pledged == 2].any()
        assert terms.accepted[pledged > 0].all()
    assert len(second) == 224  # 5.6 % of 4,000
    for name, records, row in second:
        member, owner = first[records.book.vehicles.token[row]]
        assert member != name
        assert owner == records.book.people.token[row]


def test_a_ring_is_fraud_and_part_of_it_never_pays() -> None:
    block = plan("ring", "ci", 11).block(0)
    sizes, refusals = [], []
    for name in ("B1", "A1"):
        terms, states = block.lenders[name].book.terms, block.lenders[name].histories.states
        members = (terms.ring >= 0) & ~block.lenders[name].guaranteed
        sizes += np.bincount(terms.ring[members]).tolist()
        assert terms.fraud[members].all()
        refusals += (states[members, 4] == DEFAULT).tolist()
    assert all(4 <= size <= 12 for size in sizes)
    assert 0.2 < np.mean(refusals) < 0.75


def test_policies_cover_the_share_of_financed_vehicles_that_the_world_says(planned, block: Block) -> None:
    for name, portfolio in block.insurers.items():
        share = planned.world.numbers.insurers[name].financed_share
        assert abs(portfolio.financed.mean() - share) < 1 / len(portfolio)
        financed = set(portfolio.vehicles.token[portfolio.financed].tolist())
        lenders = set().union(*(_tokens(block, member) for member in planned.accepted[0]))
        assert financed <= lenders
        assert not set(portfolio.vehicles.token[~portfolio.financed].tolist()) & lenders


def test_losses_are_zero_without_a_default_and_within_their_range_with_one(block: Block) -> None:
    for records in block.lenders.values():
        bad = records.histories.default_month > 0
        assert (records.recoveries.loss[~bad] == 0).all()
        assert ((records.recoveries.loss[bad] >= 0) & (records.recoveries.loss[bad] <= 1.05)).all()
        assert (records.recoveries.exposure[bad] > 0).all()
        assert (records.recoveries.sale_price[records.recoveries.seized] > 0).all()
        assert not (records.recoveries.cured & records.recoveries.seized).any()
