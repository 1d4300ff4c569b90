"""What an institution learns afterwards, and when: tables observation and outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.contract.canonical.folds import folds_of
from fedcredit.simulator.columns import NO_DATE, Coded, Columns
from fedcredit.simulator.dates import Calendar, monday
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CONSUMER
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.repayment import DEFAULT, LATE_1, LATE_2, LATE_3, PREPAID, UNSEEN, YEAR
from fedcredit.simulator.view_insurance import THEFT, TOTAL, Claims
from fedcredit.simulator.view_operations import last_known

SPLITS = ("dev", "oos", "oot", "ttd")
OUT_OF_SAMPLE_FOLDS = 2
KINDS = ("application", "behaviour")
TARGETS = (
    *("pd12_app", "pd12_beh", "ew30_1", "ew30_3", "fpd30", "spd30", "lgd", "claim_n", "claim_sev", "total_loss"),
    *("theft", "fraud", "rv_1", "rv_13", "rv_26", "rv_52"),
)
LABELS = ("def90", "comp", "cgi", "ew30", "fpd", "lgd", "claim", "fraud", "price")
HALF_YEAR = 183
"""Days within which a contract that is paid off says nothing yet."""
_FRAUD_DAYS = 90
"""From a default to the end of an investigation."""
_FOUND, _CLEARED = 0.6, 0.3
"""Shares of guilty and of honest defaults of the first year that are investigated."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Days of observation of one institution's loans and guarantees: one per application, one during some contracts."""

    row: np.ndarray
    """Of the records."""
    month: np.ndarray
    """On book; 0 at the application."""
    day: np.ndarray


def observe(rng: np.random.Generator, numbers: Section, records: Records) -> Observed:
    """Return every application, and one random month of each contract that then is alive with a year ahead."""
    calendar, terms = Calendar.of(numbers), records.book.terms
    latest = np.minimum(np.minimum(terms.term - 2, 24), numbers.calendar.months - YEAR - terms.month)
    month = 4 + np.floor(rng.random(len(records)) * np.maximum(latest - 3, 1)).astype(int)
    inside = np.minimum(month, records.histories.states.shape[1] - 1)
    alive = records.histories.states[np.arange(len(records)), inside] <= LATE_3
    # Who was extended in that very month is no ordinary contract to be observed.
    alive &= ~records.restructured(np.arange(len(records)), np.maximum(inside, 1))
    later = np.flatnonzero(terms.accepted & (latest >= 4) & alive)
    return Observed(
        row=np.concatenate([np.arange(len(records)), later]),
        month=np.concatenate([np.zeros(len(records), dtype=int), month[later]]),
        day=np.concatenate([records.decision, calendar.end(terms.month[later] + month[later])]),
    )


def later_days(records: Records, observed: Observed) -> np.ndarray:
    """Return the day of each contract's observation during its life, or ``NO_DATE``."""
    days = np.full(len(records), NO_DATE)
    during = observed.month > 0
    days[observed.row[during]] = observed.day[during]
    return days


def observations(numbers: Section, records: Records, observed: Observed) -> Columns:
    """Return the observation table of loans and guarantees."""
    during, row = observed.month > 0, observed.row
    accepted = records.book.terms.accepted[row]
    token = records.book.people.token[row]
    business = records.book.people.kind[row] != CONSUMER
    lender = records.kind != "insurer"
    return {
        "contract_id": records.contract[row],
        "entity_tok": token,
        "obs_date": observed.day,
        "obs_kind": Coded.of(during.astype(int), KINDS),
        "split": _split(numbers, token, observed.day, accepted),
        "fold": folds_of(token).astype(int),
        "weight": _weight(numbers, records, observed),
        "bureau_until": records.decision[row] if lender else np.full(row.size, NO_DATE),
        "rep_until": np.where(during, observed.day, NO_DATE),
        "rv_until": monday(observed.day) - 7,
        "tel_until": observed.day - 1,
        "con_until": records.decision[row] - 4,
        "ent_until": np.where(business, last_known(numbers, observed.day), NO_DATE),
        "clm_until": np.full(row.size, NO_DATE),
    }


def policy_observations(numbers: Section, portfolio: Portfolio) -> Columns:
    """Return the observation table of motor policies: the day before each begins."""
    day, token, count = portfolio.start - 1, portfolio.people.token, len(portfolio)
    columns: Columns = {name: np.full(count, NO_DATE) for name in ("bureau_until", "rep_until", "ent_until")}
    return columns | {
        "contract_id": portfolio.contract,
        "entity_tok": token,
        "obs_date": day,
        "obs_kind": Coded.of(np.zeros(count, dtype=int), KINDS),
        "split": _split(numbers, token, day, np.ones(count, dtype=bool)),
        "fold": folds_of(token).astype(int),
        "weight": np.ones(count),
        "rv_until": np.full(count, NO_DATE),
        "tel_until": day - 1,
        "con_until": day - 4,
        "clm_until": day,
    }


def _split(numbers: Section, token: np.ndarray, day: np.ndarray, accepted: np.ndarray) -> Coded:
    cut = Calendar.of(numbers).start(numbers.calendar.oot_month)
    inside = np.where(folds_of(token) < OUT_OF_SAMPLE_FOLDS, 1, 0)
    return Coded.of(np.where(accepted, np.where(day >= cut, 2, inside), 3), SPLITS)


def _weight(numbers: Section, records: Records, observed: Observed) -> np.ndarray:
    """Return 1, or the observed part of the half year in which an early end says nothing about default."""
    months = _prepaid_after(records, observed)
    days = _end(numbers, records, observed, months) - observed.day
    weight: np.ndarray = np.where((months > 0) & (days < HALF_YEAR), np.round(days / HALF_YEAR, 3), 1.0)
    return weight


def _prepaid_after(records: Records, observed: Observed) -> np.ndarray:
    """Return months from the observation to an early end within the year, or 0."""
    closed = records.histories.states == PREPAID
    first = np.where(closed.any(1), closed.argmax(1), 0)[observed.row]
    after = first - observed.month
    months: np.ndarray = np.where((first > 0) & (after <= YEAR), after, 0)
    return months


def outcomes(
    rng: np.random.Generator, numbers: Section, records: Records, observed: Observed, *, flip: float
) -> list[Columns]:
    """Return what became of accepted contracts, target by target; ``flip`` is the share of labels that lie."""
    kept = records.book.terms.accepted[observed.row]
    alive = Observed(row=observed.row[kept], month=observed.month[kept], day=observed.day[kept])
    during = alive.month > 0
    parts = [
        _default(rng, numbers, records, _some(alive, ~during), "pd12_app", flip=flip),
        _default(rng, numbers, records, _some(alive, during), "pd12_beh", flip=0.0),
        _payment(numbers, records, _some(alive, ~during), "fpd30", 2),
        _payment(numbers, records, _some(alive, ~during), "spd30", 3),
        _loss(numbers, records, _some(alive, ~during)),
        _fraud(rng, numbers, records, _some(alive, ~during)),
    ]
    states = records.histories.states[alive.row, np.minimum(alive.month, records.histories.states.shape[1] - 1)]
    fresh = _some(alive, during & (states <= LATE_1))
    return [*parts, _warning(numbers, records, fresh, "ew30_1", 1), _warning(numbers, records, fresh, "ew30_3", 3)]


def _some(observed: Observed, rows: np.ndarray) -> Observed:
    return Observed(row=observed.row[rows], month=observed.month[rows], day=observed.day[rows])


def _end(numbers: Section, records: Records, observed: Observed, months: np.ndarray | int) -> np.ndarray:
    """Return the last day of the month that lies ``months`` after each observation."""
    start = records.book.terms.month[observed.row] + observed.month
    return Calendar.of(numbers).end(start + months)


def _rows(
    records: Records, observed: Observed, target: str, kind: str, *, y: np.ndarray, window: float, known: np.ndarray
) -> Columns:
    count = observed.row.size
    nothing = np.full(count, NO_DATE)
    return {
        "contract_id": Coded(codes=observed.row, words=records.contract),
        "obs_date": observed.day,
        "target": Coded.of(np.full(count, TARGETS.index(target)), TARGETS),
        "kind": Coded.of(np.full(count, LABELS.index(kind)), LABELS),
        "y": np.asarray(y, dtype=float),
        "indeterminate": np.zeros(count, dtype=int),
        "window_m": np.full(count, float(window)),
        "known_at": known,
        "event_date": nothing,
        "prepaid_date": nothing,
        "repo_date": nothing,
        "ead": np.full(count, np.nan),
    }


def _default(
    rng: np.random.Generator,
    numbers: Section,
    records: Records,
    observed: Observed,
    target: str,
    *,
    flip: float,
) -> Columns:
    row, label = observed.row, records.label
    month, worst = _default_after(records, observed)
    bad = month > 0
    # Who lies does it so that nothing contradicts it: an extension stands in the panel, so it stays a default.
    told = bad ^ ((rng.random(row.size) < flip) & ~(bad & records.restructures[row]))
    event = _end(numbers, records, observed, month)
    known = np.where(bad & told, event, _end(numbers, records, observed, YEAR)) + label.lag_days
    columns = _rows(records, observed, target, label.kind, y=told, window=YEAR, known=known)
    prepaid = _prepaid_after(records, observed)
    columns["indeterminate"] = (~told & (worst >= LATE_2)).astype(int)
    columns["event_date"] = np.where(bad & told, event, NO_DATE)
    columns["prepaid_date"] = np.where(prepaid > 0, _end(numbers, records, observed, prepaid), NO_DATE)
    # An extension is a default without a vehicle taken; it may be taken later, when the contract stops being paid.
    fallen = observed.month + month == records.histories.default_month[row]
    seized = bad & told & fallen & records.recoveries.seized[row]
    columns["repo_date"] = np.where(seized, event + np.minimum(records.recoveries.days[row], 20).astype(int), NO_DATE)
    columns["ead"] = np.where(bad & told, np.round(records.recoveries.exposure[row], 2), np.nan)
    return columns


def _default_after(records: Records, observed: Observed) -> tuple[np.ndarray, np.ndarray]:
    """Return (months to the default by this institution's rule or 0, worst state of the year).

    A rule of fewer days past due than 90 also takes a share of the contracts that reach 61 to 90 days. An extension
    granted to a contract so late is a default too: it would not have been paid.
    """
    states, row = records.histories.states, observed.row
    early = records.luck[row] < np.clip((90 - records.label.dpd_equiv) / 30, 0, 1)
    last = states.shape[1] - 1
    month, worst = np.zeros(row.size, dtype=int), np.zeros(row.size, dtype=int)
    for ahead in range(1, YEAR + 1):
        now = np.minimum(observed.month + ahead, last)
        state = np.where(observed.month + ahead <= last, states[row, now], UNSEEN)
        falls = (state == DEFAULT) | ((state == LATE_3) & early)
        falls |= (state == 0) & records.restructured(row, now)
        month = np.where((month == 0) & falls, ahead, month)
        worst = np.maximum(worst, np.where((month == 0) & (state <= DEFAULT), state, 0))
    return month, worst


def _payment(numbers: Section, records: Records, observed: Observed, target: str, month: int) -> Columns:
    """First or second payment 30 days late: every month before and at ``month`` was missed."""
    states, row = records.histories.states, observed.row
    late = (states[row, month] >= LATE_2) & (states[row, month] <= DEFAULT) & (states[row, month - 1] == LATE_1)
    if month > 2:
        late &= states[row, 1] == 0
    known = _end(numbers, records, observed, month) + records.label.lag_days
    return _rows(records, observed, target, "fpd", y=late, window=month, known=known)


def _warning(numbers: Section, records: Records, observed: Observed, target: str, months: int) -> Columns:
    states, row = records.histories.states, observed.row
    late = np.zeros(row.size, dtype=bool)
    for ahead in range(1, months + 1):
        state = states[row, np.minimum(observed.month + ahead, states.shape[1] - 1)]
        late |= (state >= LATE_2) & (state <= DEFAULT)
    known = _end(numbers, records, observed, months) + records.label.lag_days
    return _rows(records, observed, target, "ew30", y=late, window=months, known=known)


def _loss(numbers: Section, records: Records, observed: Observed) -> Columns:
    """Workouts that were over by the snapshot; an open one has no row yet."""
    last = Calendar.of(numbers).end(numbers.calendar.snapshot_month - 1)
    default = records.histories.default_month
    bad = _some(observed, default[observed.row] > 0)
    event = _end(numbers, records, bad, default[bad.row])
    known = event + records.recoveries.days[bad.row].astype(int)
    over = known <= last
    done, found = _some(bad, over), records.recoveries.take(bad.row[over])
    columns = _rows(records, done, "lgd", "lgd", y=np.round(found.loss, 5), window=0, known=known[over])
    columns["window_m"] = np.minimum(np.floor((known[over] - done.day) / 30.4375), 60)
    columns["event_date"] = event[over]
    columns["ead"] = np.round(found.exposure, 2)
    sold = event[over] + np.minimum(found.days, 20).astype(int)
    columns["repo_date"] = np.where(found.seized, sold, NO_DATE)
    return columns


def _fraud(rng: np.random.Generator, numbers: Section, records: Records, observed: Observed) -> Columns:
    """Defaults of the first year that were investigated: confirmed or cleared; what nobody looked at has no label."""
    terms, default = records.book.terms, records.histories.default_month
    guilty = terms.fraud | (terms.pledged == 2)
    looked = rng.random(len(records)) < np.where(guilty, _FOUND, _CLEARED)
    rows = looked & (default > 0) & (default <= YEAR)
    found = _some(observed, rows[observed.row])
    event = _end(numbers, records, found, default[found.row])
    columns = _rows(records, found, "fraud", "fraud", y=guilty[found.row], window=YEAR, known=event + _FRAUD_DAYS)
    columns["window_m"] = np.floor((event + _FRAUD_DAYS - found.day) / 30.4375)
    columns["event_date"] = event
    return columns


def price_outcome(records: Records, row: np.ndarray, weeks: int, price: np.ndarray) -> Columns:
    """Return the prices of vehicles that were sold ``weeks`` after the decision."""
    day = records.decision[row]
    sold = day + 7 * weeks
    observed = Observed(row=row, month=np.zeros(row.size, dtype=int), day=day)
    columns = _rows(records, observed, f"rv_{weeks}", "price", y=price, window=round(weeks / 4.345, 2), known=sold)
    columns["event_date"] = sold
    return columns


def claim_outcomes(numbers: Section, portfolio: Portfolio, claims: Claims) -> list[Columns]:
    """Return number, cost, total loss and theft of the modelled year of every policy."""
    count, now = len(portfolio), claims.take(~claims.earlier)
    lag = int(numbers.insurers[portfolio.institution].lag_days)
    known = portfolio.start + 365 + lag
    cost = np.bincount(now.policy, weights=now.paid, minlength=count)
    lost = np.bincount(now.policy[now.kind == TOTAL], minlength=count) > 0
    stolen = np.bincount(now.policy[now.kind == THEFT], minlength=count) > 0
    targets = {"claim_n": portfolio.claims, "claim_sev": np.round(cost, 2), "total_loss": lost, "theft": stolen}
    parts = []
    for target, y in targets.items():
        rows = np.flatnonzero(portfolio.claims) if target == "claim_sev" else np.arange(count)
        nothing = np.full(rows.size, NO_DATE)
        parts.append(
            {
                "contract_id": Coded(codes=rows, words=portfolio.contract),
                "obs_date": portfolio.start[rows] - 1,
                "target": Coded.of(np.full(rows.size, TARGETS.index(target)), TARGETS),
                "kind": Coded.of(np.full(rows.size, LABELS.index("claim")), LABELS),
                "y": np.asarray(y[rows], dtype=float),
                "indeterminate": np.zeros(rows.size, dtype=int),
                "window_m": np.full(rows.size, 12.0),
                "known_at": known[rows],
                "event_date": nothing,
                "prepaid_date": nothing,
                "repo_date": nothing,
                "ead": np.full(rows.size, np.nan),
            }
        )
    return parts  # type: ignore[return-value]
