"""Who shares a phone, a device or a repair shop with whom: table edge. It never leaves an institution."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.columns import Coded, Columns
from fedcredit.simulator.people import ENTERPRISE
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.view_insurance import Claims

_KINDS = ("phone", "device", "address", "guarantor", "dealer", "repair_shop", "claimant", "employer")
_ORIGINS = ("application", "servicing", "claim", "investigation")
_PHONE, _DEVICE, _GUARANTOR, _SHOP, _CLAIMANT = 0, 1, 3, 5, 6
_INNOCENT = 0.02
"""Links of honest customers per customer: families, employers, a phone that changed hands."""


def lender_edges(rng: np.random.Generator, records: Records) -> Columns:
    """Return the links that application forms show: rings share two things, honest people one now and then."""
    people, ring, day = records.book.people, records.book.terms.ring, records.decision
    links = [_innocent(rng, len(records))]
    enterprises = np.flatnonzero(people.kind == ENTERPRISE)
    if enterprises.size > 1:
        guarantors = np.roll(enterprises, 1)[: enterprises.size // 6]
        links.append(
            np.column_stack([enterprises[: guarantors.size], guarantors, np.full(guarantors.size, _GUARANTOR)])
        )
    for number in np.unique(ring[ring >= 0]):
        members = np.flatnonzero(ring == number)
        one, other = np.triu_indices(members.size, 1)
        for kind in (_PHONE, _DEVICE):
            links.append(np.column_stack([members[one], members[other], np.full(one.size, kind)]))
    return _edges(np.concatenate(links), people.token, day, origin=0)


def insurer_edges(rng: np.random.Generator, portfolio: Portfolio, claims: Claims) -> Columns:
    """Return the links of staged accidents, by repair shop and claimant, among honest ones."""
    staged = np.unique(claims.policy[claims.staged])
    links = [_innocent(rng, len(portfolio))]
    for group in np.array_split(rng.permutation(staged), max(1, staged.size // 6)):
        one, other = np.triu_indices(group.size, 1)
        for kind in (_SHOP, _CLAIMANT):
            links.append(np.column_stack([group[one], group[other], np.full(one.size, kind)]))
    day = portfolio.start.copy()
    np.maximum.at(day, claims.policy, claims.report)
    return _edges(np.concatenate(links), portfolio.people.token, day, origin=2)


def _innocent(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return (links, 3): two customers and what they share."""
    links = round(_INNOCENT * count)
    kinds = rng.choice([0, 1, 2, 7], links, p=[0.3, 0.15, 0.35, 0.2])
    found: np.ndarray = np.column_stack([rng.integers(0, count, (links, 2)), kinds])
    return found


def _edges(links: np.ndarray, token: np.ndarray, day: np.ndarray, *, origin: int) -> Columns:
    one, other, kind = links.T
    apart = token[one] != token[other]
    one, other, kind = one[apart], other[apart], kind[apart]
    swap = token[one] > token[other]
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    _, person = np.unique(token, return_inverse=True)
    _, first = np.unique(np.column_stack([person[one], person[other], kind]), axis=0, return_index=True)
    one, other, kind = one[first], other[first], kind[first]
    return {
        "entity_a": Coded(codes=one, words=token),
        "entity_b": Coded(codes=other, words=token),
        "kind": Coded.of(kind, _KINDS),
        "origin": Coded.of(np.full(kind.size, origin), _ORIGINS),
        "known_at": np.maximum(day[one], day[other]),
    }
