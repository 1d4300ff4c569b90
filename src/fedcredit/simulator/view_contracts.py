"""What an institution writes down of its customers and contracts: tables entity and contract."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.columns import (
    NO_DATE,
    NOT_APPLICABLE,
    NOT_COLLECTED,
    REFUSED,
    Coded,
    Columns,
)
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CONSUMER, DISHONESTY, ENTERPRISE, People
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.repayment import MATURED, PREPAID, UNSEEN

KINDS = ("consumer", "sole_trader", "small_ent")
PRODUCTS = ("new_car", "used_car", "commercial", "lease", "equipment", "mixed")
_INDUSTRIES = ("C30", "G54", "F51", "F52", "E48", "A01", "O80", "C33")
_CERAMICS = "G2"
_LAST_WITHDRAWAL = 85
"""Days after the first decision."""


def entity_table(rng: np.random.Generator, numbers: Section, people: People, first_day: np.ndarray) -> Columns:
    """Return one row per entity; ``first_day`` is the decision or policy start that made each a customer."""
    count = len(people)
    withdrawn = people.luck[:, 1] < numbers.missing.withdrawn
    industry = rng.integers(0, len(_INDUSTRIES), count)
    # Nobody withdraws because of a default: no contract is 90 days late so early.
    days = rng.integers(20, _LAST_WITHDRAWAL, count)
    return {
        "entity_tok": people.token,
        "ent_type": Coded.of(people.kind, KINDS),
        "region2": Coded.of(people.region, numbers.regions.codes.tolist()),
        "industry2": Coded.of(np.where(people.kind == CONSUMER, NOT_APPLICABLE, industry), _INDUSTRIES),
        "legal_basis": Coded.of(withdrawn.astype(int), ("contract", "consent")),
        "consent_ts": first_day - 1,
        "withdrawn": withdrawn.astype(int),
        "withdrawn_at": np.where(withdrawn, first_day + days, NO_DATE),
    }


def contract_table(rng: np.random.Generator, numbers: Section, records: Records) -> Columns:
    """Return one row per application at a lender or fund, accepted or not."""
    book, terms = records.book, records.book.terms
    accepted, count = terms.accepted, len(records)
    guaranteed = records.guaranteed
    shares = np.where(guaranteed[:, None], [0.2, 0.4, 0.4, 0.0], [1.0, 0.0, 0.0, 0.0])
    if records.kind == "insurer":
        shares = np.tile([0.2, 0.0, 0.0, 0.8], (count, 1))
    lessor = records.kind == "lessor"
    product = np.where(book.vehicles.commercial, 2, np.where(lessor, 3, np.where(book.vehicles.used, 1, 0)))
    if records.institution == _CERAMICS:
        product = np.where(book.people.kind == ENTERPRISE, 5, product)
    core: Columns = {
        "contract_id": records.contract,
        "entity_tok": book.people.token,
        "vin_tok": book.vehicles.token,
        "product": Coded.of(product, PRODUCTS),
        "orig_date": np.where(accepted, Calendar.of(numbers).start(terms.month) + terms.day, NO_DATE),
        "decision_date": records.decision,
        "decision": Coded.of(np.where(accepted, 0, 1), ("approve", "decline")),
        "status": _status(records),
        "amount": np.round(terms.amount, 2),
        "term_m": terms.term,
        "apr": np.round(terms.apr, 4),
        "ltv0": np.round(terms.ltv, 4),
        "share_bank": shares[:, 0],
        "share_guar": shares[:, 1],
        "share_reguar": shares[:, 2],
        "share_ins": shares[:, 3],
        "subvented": (rng.random(count) < 0.12).astype(int),
        "channel": Coded.of(rng.choice(5, count, p=[0.15, 0.5, 0.2, 0.1, 0.05]), _CHANNELS),
        "dealer_id": _dealers(rng, book.people.region, terms.ring),
    }
    return core | _application(rng, numbers, records) if numbers.coverage[records.kind].app else core


_CHANNELS = ("branch", "dealer", "online", "partner", "other")
_STATUSES = ("active", "closed", "prepaid", "written_off", "repossessed", "compensated", "never_started")
_DEALERS_OF_REGION = 25


def _dealers(rng: np.random.Generator, region: np.ndarray, ring: np.ndarray) -> Coded:
    dealer = region.astype(int) * _DEALERS_OF_REGION + rng.integers(0, _DEALERS_OF_REGION, region.size)
    dealer = np.where(ring >= 0, ring % _DEALERS_OF_REGION, dealer)
    return Coded.of(dealer, [f"D{number:04d}" for number in range(int(dealer.max(initial=0)) + 1)])


def _status(records: Records) -> Coded:
    states, terms = records.histories.states, records.book.terms
    seen = np.where(states == UNSEEN, 0, states)
    closed = np.where((seen == PREPAID).any(1), 2, np.where((seen == MATURED).any(1), 1, 0))
    default = 5 if records.label.kind in ("comp", "cgi") else 3
    lost = np.where(records.recoveries.seized & (default == 3), 4, default)
    status = np.where(records.histories.default_month > 0, lost, closed)
    return Coded.of(np.where(terms.accepted, status, 6), _STATUSES)


def _application(rng: np.random.Generator, numbers: Section, records: Records) -> Columns:
    people, terms, count = records.book.people, records.book.terms, len(records)
    missing, lessor = numbers.missing, records.kind == "lessor"
    rough = missing.verify_noise * (2.0 if lessor else 1.0)
    income = people.income * np.exp(rough * rng.standard_normal(count))
    unstated = rng.random(count) < missing.income_base + missing.income_trader * (people.kind != CONSUMER)
    consumer = people.kind == CONSUMER
    housing = rng.choice(5, count, p=[0.32, 0.3, 0.22, 0.13, 0.03])
    columns: Columns = {
        "age_y": np.floor(people.age).astype(int),
        "income_m": np.where(unstated, NOT_COLLECTED, np.round(income, 0)),
        "income_verif": rng.choice(4, count, p=[0.2, 0.35, 0.3, 0.15]),
        "emp_tenure_m": np.clip(np.round(people.tenure), 1, 600).astype(int),
        "housing": Coded.of(_gaps(rng, housing, missing.random), ("owner", "mortgage", "rent", "family", "other")),
        "marital": Coded.of(
            np.where(consumer, _gaps(rng, rng.choice(3, count, p=[0.3, 0.62, 0.08]), missing.random), NOT_APPLICABLE),
            ("single", "married", "other"),
        ),
        "pti": _gaps(rng, np.round(np.clip(terms.pti * people.income / income, 0.01, 1.5), 4), missing.random),
        "debt_to_income": np.round(np.clip(people.other_debt * 2.2 + terms.ltv, 0, 5), 4),
        "guarantor_flag": (rng.random(count) < 0.06 + 0.25 * (people.kind == ENTERPRISE)).astype(int),
        "coborrower": (rng.random(count) < 0.22).astype(int),
        "downpay_pct": np.round(np.clip(1 - terms.ltv, 0.0, 0.95), 4),
        "device_risk_n": _risk_counts(rng, people, terms.ring),
        "ip_risk_n": _risk_counts(rng, people, terms.ring),
        "app_hour": np.clip(np.round(rng.normal(14.5, 4.2, count)), 0, 23).astype(int),
    }
    return columns | _bureau(rng, numbers, records)


def _bureau(rng: np.random.Generator, numbers: Section, records: Records) -> Columns:
    people, terms, count = records.book.people, records.book.terms, len(records)
    rules = numbers.members[records.institution]
    score = np.clip(np.round(rules.score_offset + rules.score_slope * people.bureau), 300, 900)
    worst = np.where(people.lateness > 0, np.minimum(30 * people.lateness + rng.integers(0, 30, count), 180), 0)
    open_credits = rng.poisson(2.0 + people.enquiries[:, 2] * 0.5)
    unsecured = rng.binomial(open_credits, 0.45)
    bureau = {
        "bureau_age_m": np.clip(np.round((people.age - 20) * 6 + rng.integers(3, 40, count)), 3, 480).astype(int),
        "bureau_score": score.astype(float),
        "n_enq_1m": people.enquiries[:, 0],
        "n_enq_3m": people.enquiries[:, 1],
        "n_enq_6m": people.enquiries[:, 2],
        "n_open": open_credits,
        "n_unsec": unsecured,
        "util_rev": _gaps(rng, np.round(people.utilisation, 4), numbers.missing.random),
        "max_dpd_24m": worst,
        "n_30p_24m": people.lateness,
        "charge_offs": rng.poisson(0.01 + 0.05 * people.lateness),
    }
    known = {name: np.where(terms.no_hit, NOT_APPLICABLE, column) for name, column in bureau.items()}
    refused = people.luck[:, 1] > 1 - numbers.missing.withdrawn
    known["util_rev"] = np.where(refused & ~terms.no_hit, REFUSED, known["util_rev"])
    asked = records.decision - rng.integers(0, 4, count)
    return {**known, "bureau_hit": (~terms.no_hit).astype(int), "bureau_date": asked}


def _risk_counts(rng: np.random.Generator, people: People, ring: np.ndarray) -> np.ndarray:
    counts: np.ndarray = rng.poisson(np.exp(-2.6 + 0.4 * people.traits[:, DISHONESTY])) + 2 * (ring >= 0)
    return counts


def _gaps(rng: np.random.Generator, column: np.ndarray, share: float) -> np.ndarray:
    """Return the column with cells that were not collected, completely at random."""
    result: np.ndarray = np.where(rng.random(column.size) < share, NOT_COLLECTED, column)
    return result


def policy_contracts(rng: np.random.Generator, numbers: Section, portfolio: Portfolio) -> Columns:
    """Return the motor policies of an insurer as rows of the contract table; it has no rate and no form."""
    vehicles, count = portfolio.vehicles, len(portfolio)
    last = Calendar.of(numbers).start(numbers.calendar.snapshot_month)
    core: Columns = {
        "contract_id": portfolio.contract,
        "entity_tok": portfolio.people.token,
        "vin_tok": vehicles.token,
        "product": Coded.of(np.where(vehicles.commercial, 2, np.where(vehicles.used, 1, 0)), PRODUCTS),
        "orig_date": portfolio.start,
        "decision_date": portfolio.start - 1,
        "decision": Coded.of(np.zeros(count, dtype=int), ("approve",)),
        "status": Coded.of((portfolio.start + 365 < last).astype(int), ("active", "closed")),
        "amount": np.round(vehicles.value, 2),
        "term_m": np.full(count, 12),
        "dealer_id": _dealers(rng, portfolio.people.region, np.full(count, -1)),
        "share_ins": np.ones(count),
        "channel": Coded.of(rng.choice(4, count, p=[0.1, 0.45, 0.35, 0.1]), _CHANNELS),
    }
    for name in ("apr", "ltv0", "subvented"):
        core[name] = np.full(count, NOT_APPLICABLE)
    for name in ("share_bank", "share_guar", "share_reguar"):
        core[name] = np.zeros(count)
    return core
