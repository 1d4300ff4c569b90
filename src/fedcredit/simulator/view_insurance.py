"""What an institution writes down of policies and claims: tables pol and clm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.columns import NO_DATE, NOT_APPLICABLE, Coded, Columns
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import PRUDENCE
from fedcredit.simulator.records import Portfolio
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.seeds import tokens
from fedcredit.simulator.sightings import Sightings
from fedcredit.simulator.vehicles import FUELS, USES

COVERS = ("compulsory", "own", "third", "full", "credit_guarantee")
CLAIMS = ("own", "third", "glass", "flood", "battery", "total", "theft")
TOTAL, THEFT = CLAIMS.index("total"), CLAIMS.index("theft")
_BATTERY, _FIRST_ELECTRIC = CLAIMS.index("battery"), FUELS.index("PHEV")
YEAR = 365
_SHOPS = 40


@dataclass(frozen=True, kw_only=True)
class Claims(Rows):
    """One row per claim."""

    policy: np.ndarray
    """Row of the portfolio."""
    earlier: np.ndarray
    """The claim fell on the policy of the year before."""
    loss: np.ndarray
    """Day."""
    report: np.ndarray
    kind: np.ndarray
    """Place in ``CLAIMS``."""
    paid: np.ndarray
    staged: np.ndarray


def draw_claims(rng: np.random.Generator, numbers: Section, portfolio: Portfolio) -> Claims:
    """Return every claim on the policies of the modelled year and the year before."""
    c, place = numbers.claims, np.arange(len(portfolio))
    policy = np.concatenate([np.repeat(place, portfolio.claims), np.repeat(place, portfolio.earlier)])
    earlier = np.arange(policy.size) >= portfolio.claims.sum()
    span = np.where(earlier, 1.0, portfolio.exposure[policy]) * YEAR
    loss = portfolio.start[policy] - YEAR * earlier + np.floor(rng.random(policy.size) * span).astype(int)
    draw = rng.random(policy.size)
    kind = rng.choice(5, policy.size, p=c.kind_shares)
    electric = portfolio.vehicles.fuel[policy] >= _FIRST_ELECTRIC
    kind = np.where((kind == _BATTERY) & ~electric, 0, kind)
    kind = np.where(draw < c.theft_share, THEFT, np.where(draw < c.theft_share + c.total_share, TOTAL, kind))
    # A vehicle that was lost the year before is not insured again.
    kind = np.where(earlier & (kind >= TOTAL), 0, kind)
    paid = np.exp(c.severity_mean + c.severity_sd * rng.standard_normal(policy.size))
    paid = np.where(kind >= TOTAL, 0.92 * portfolio.vehicles.value[policy], paid)
    staged = (rng.random(policy.size) < numbers.fraud.staged_share) & (kind <= 1)
    return Claims(
        policy=policy,
        earlier=earlier,
        loss=loss,
        report=loss + np.floor(rng.exponential(c.report_delay, policy.size)).astype(int).clip(0, 150),
        kind=kind,
        paid=np.round(paid, 2),
        staged=staged,
    )


def clm(
    rng: np.random.Generator, numbers: Section, portfolio: Portfolio, *, policies: Columns, claims: Claims
) -> Columns:
    """Return the claims; ``policies`` is the insurer's ``pol`` table, the year before behind the modelled year."""
    count = len(claims)
    earlier = np.cumsum(portfolio.renewed) - 1 + len(portfolio)
    policy = np.where(claims.earlier, earlier[claims.policy], claims.policy)
    shop = np.where(claims.staged, 0, rng.integers(1, _SHOPS, count))
    lost = claims.kind >= TOTAL
    return {
        "claim_id": tokens(rng, count, 16),
        "policy_id": Coded(codes=policy, words=np.asarray(policies["policy_id"])),
        "loss_date": claims.loss,
        "report_date": claims.report,
        "known_at": claims.report,
        "kind": Coded.of(claims.kind, CLAIMS),
        "paid": claims.paid,
        "reserve": np.round(np.where(rng.random(count) < 0.05, 0.2 * claims.paid, 0.0), 2),
        "at_fault": np.where(lost, NOT_APPLICABLE, (rng.random(count) < numbers.claims.fault_share).astype(int)),
        "repair_shop": Coded.of(shop, [f"shop-{number:02d}" for number in range(_SHOPS)]),
        "suspicious_flag": np.where(claims.staged & (rng.random(count) < 0.5), 1, 0),
        "salvage_value": np.where(claims.kind == TOTAL, np.round(0.25 * claims.paid, 2), NOT_APPLICABLE),
    }


def insurer_policies(rng: np.random.Generator, numbers: Section, portfolio: Portfolio) -> Columns:
    """Return the policies of the modelled year, and behind them those of the year before; lapsed ones too."""
    count, renewed = len(portfolio), np.flatnonzero(portfolio.renewed)
    row = np.concatenate([np.arange(count), renewed])
    before = np.arange(row.size) >= count
    start = portfolio.start[row] - YEAR * before
    exposure = np.where(before, 1.0, portfolio.exposure[row])
    policies = tokens(rng, row.size, 16)
    people, vehicles = portfolio.people.take(row), portfolio.vehicles.take(row)
    return {
        "policy_id": policies,
        "entity_tok": people.token,
        "vin_tok": vehicles.token,
        "contract_id": Coded(codes=np.where(before, NO_DATE, row), words=portfolio.contract),
        "start": start,
        "end": start + np.round(YEAR * exposure).astype(int) - 1,
        "cover": Coded.of(rng.choice(4, row.size, p=[0.12, 0.08, 0.2, 0.6]), COVERS),
        "sum_insured": np.round(vehicles.value, 0),
        "premium": _premium(numbers, vehicles.value),
        "ncd_coef": _no_claim(rng, numbers, people.traits[:, PRUDENCE], np.where(before, 0, portfolio.earlier[row])),
        "use": Coded.of(vehicles.use, USES),
        "exposure_y": exposure,
    }


def policy_copies(rng: np.random.Generator, numbers: Section, seen: Sightings) -> Columns:
    """Return the copies of motor policies in a lender's files; no claims come with them."""
    count, v = len(seen), seen.vehicles
    nothing = np.full(count, NO_DATE)
    return {
        "policy_id": tokens(rng, count, 16),
        "entity_tok": seen.people.token,
        "vin_tok": v.token,
        "contract_id": Coded(codes=nothing, words=np.array([b""])),
        "start": seen.day,
        "end": seen.day + YEAR - 1,
        "cover": Coded.of(rng.choice(4, count, p=[0.0, 0.15, 0.05, 0.8]), COVERS),
        "sum_insured": np.round(v.value, 0),
        "premium": _premium(numbers, v.value),
        "ncd_coef": _no_claim(rng, numbers, seen.people.traits[:, PRUDENCE], np.minimum(v.past_claims, 3)),
        "use": Coded.of(v.use, USES),
        "exposure_y": np.ones(count),
    }


def _premium(numbers: Section, value: np.ndarray) -> np.ndarray:
    premium: np.ndarray = np.round(950 + numbers.claims.premium_share * value, 0)
    return premium


def _no_claim(rng: np.random.Generator, numbers: Section, prudence: np.ndarray, claims: np.ndarray) -> np.ndarray:
    c = numbers.claims
    years = rng.binomial(4, c.ncd_chance + c.ncd_prudence * np.tanh(prudence))
    coefficient: np.ndarray = np.round(np.clip(1 - c.ncd_step * years + c.ncd_claim * claims, 0.4, 2.0), 2)
    return coefficient
