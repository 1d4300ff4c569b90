"""What a run folder says about its run, as frozen, checked values.

Two files are read: ``result.json`` (one object) and ``metrics.jsonl`` (one object per evaluated round). Every field
that the report shows must be there and have its type; fields that it does not show are left alone, so that a newer
fedcredit may add some without a new ``schema_version``. JSON has no infinity: an epsilon of infinity is the text "inf".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, ValidationError

from fedcredit.errors import RunNotFoundError, StoreCorruptError

RESULT_FILE: Final = "result.json"
METRICS_FILE: Final = "metrics.jsonl"


def _infinity(value: object) -> object:
    return math.inf if value == "inf" else value


Count = Annotated[int, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Change = Annotated[FiniteFloat, Field(ge=-1, le=1)]
Ratio = Annotated[FiniteFloat, Field(ge=0)]
Epsilon = Annotated[float, Field(ge=0, allow_inf_nan=True), BeforeValidator(_infinity)]
"""At least 0; "inf" is infinity. NaN is refused, because no comparison with 0 holds for it."""

Noised = Annotated[float | None, Field(allow_inf_nan=True), BeforeValidator(_infinity)]


class _Value(BaseModel):
    # strict: the text "0.7" is not a number, and true is not 1.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class InstitutionRow(_Value):
    """One institution: its own best model, the shared model and the pooled ceiling on the same test records."""

    institution: str
    kind: str
    modalities: tuple[str, ...] = Field(strict=False)
    n: Count
    alone_method: str
    alone_auc: Share
    alone_auc_low: Share
    alone_auc_high: Share
    alone_ks: Share
    alone_ks_low: Share
    alone_ks_high: Share
    federated_auc: Share
    federated_auc_low: Share
    federated_auc_high: Share
    federated_ks: Share
    federated_ks_low: Share
    federated_ks_high: Share
    pooled_auc: Share
    pooled_auc_low: Share
    pooled_auc_high: Share
    pooled_ks: Share
    pooled_ks_low: Share
    pooled_ks_high: Share
    gain: Change
    gain_low: Change
    gain_high: Change
    own_n: Count
    own_alone_auc: Share | None
    own_federated_auc: Share | None
    own_gain: Change | None
    own_gain_low: Change | None
    own_gain_high: Change | None


class Summary(_Value):
    """The run in a few figures, on the common test records."""

    test_n: Count
    test_bads: Count
    alone_mean_auc: Share
    federated_auc: Share
    federated_auc_low: Share
    federated_auc_high: Share
    pooled_auc: Share
    pooled_method: str
    federated_brier: Share
    federated_observed_expected: Ratio


class CalibrationBin(_Value):
    """One decile of the predicted risk: mean prediction against the observed rate with its interval."""

    mean_predicted: Share
    observed: Share
    n: Count
    low: Share
    high: Share


class FederatedEvaluation(_Value):
    """Figures from the institutions' noised score counts, as a real consortium would see them.

    Noise may carry a figure out of its range or leave it undefined; it is shown as it is.
    """

    auc: Noised
    auc_low: Noised
    auc_high: Noised
    ks: Noised
    gini: Noised
    brier: Noised
    observed_expected: Noised
    epsilon: Epsilon
    note: str


class ModelSettings(_Value):
    """What the plan says about the model; a key that its kind has no use for is absent."""

    width: Count | None = None
    depth: Count | None = None
    trees_per_round: Count | None = None
    trees: Count
    """After the last round; 0 for everything but trees."""


class Spending(_Value):
    """What one institution's own ledger says: as the releases claim, and if secure aggregation fails."""

    institution: str
    epsilon: Epsilon
    epsilon_alone: Epsilon
    cap: Epsilon
    holdout_epsilon: Epsilon
    holdout_epsilon_alone: Epsilon
    releases: Count


class Privacy(_Value):
    """The unit, the mechanism and the cost, against whoever sees a sum and against whoever reads one message alone."""

    unit: str
    neighbours: str
    mechanism: str
    accountant: Literal["gdp", "rdp", "none"]
    noise: Literal["local", "shared"]
    honest_shares: Annotated[int, Field(ge=1)]
    """How many institutions' noise the claim rests on; 1 for local noise."""
    epsilon: Epsilon
    epsilon_alone: Epsilon
    """If secure aggregation fails and one institution's message is read alone."""
    delta: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    steps: Count
    preparations: Count
    sampling_rate: Annotated[FiniteFloat, Field(gt=0, le=1)]
    epsilon_by_renyi: Epsilon
    tpr_ceiling_at_fpr_1_percent: Share
    evaluation_epsilon: Epsilon
    evaluation_epsilon_alone: Epsilon
    test_noise: bool
    spent: tuple[Spending, ...] = Field(strict=False)


class InstitutionTraffic(_Value):
    """What one institution sent and received."""

    institution: str
    messages: Count
    bytes_up: Count
    bytes_down: Count


class Traffic(_Value):
    """Which message types left an institution, and how much of them."""

    message_types: tuple[str, ...] = Field(strict=False)
    institutions: tuple[InstitutionTraffic, ...] = Field(strict=False)


class Audit(_Value):
    """The coordinator's audit log: its head stands for all entries."""

    head: str
    entries: Count


class Result(_Value):
    """The whole of ``result.json``, schema version 3."""

    schema_version: Literal["3"]
    dataset: str
    title: str
    provenance: Literal["real", "real-segments", "simulated"]
    provenance_note: str
    attribution: str
    model: str
    model_settings: ModelSettings
    runtime: str
    seed: int
    rounds: Count
    protected: bool
    aggregation: Literal["secure", "open"]
    """Whether the coordinator could read sums only, or every institution's noised message."""
    threshold: Annotated[int, Field(ge=1)]
    """Members who had to agree to open a sum; 1 for open aggregation."""
    update_bound: Literal["share", "none"]
    """Whether every institution shortened its sums to its share of the last one."""
    vote_floor: Share | None
    """Least AUC that nobody voted against; ``None`` if nobody voted."""
    colluders: Count
    verdict: Literal["released", "not-released", "not-voted"]
    votes: Mapping[str, Annotated[tuple[str, str], Field(strict=False)]]
    """Per institution: what it said to the model, and why."""
    rows: tuple[InstitutionRow, ...] = Field(strict=False, min_length=1)
    shared_borrowers: Count = 0
    """Borrowers whom two institutions or more know."""
    most_institutions: Count = 1
    """At how many institutions the best known borrower is."""
    left_out: Mapping[str, str] = Field(default_factory=dict)
    """Institutions of the data that did not take part, and why."""
    summary: Summary
    calibration: tuple[CalibrationBin, ...] = Field(strict=False, min_length=1)
    federated_evaluation: FederatedEvaluation | None
    privacy: Privacy
    traffic: Traffic
    audit: Audit
    plan_digest: str
    run: str
    wall_s: Ratio
    version: str

    @property
    def private(self) -> bool:
        """Whether the run protects borrowers: said to be, with a finite epsilon and without noise for tests.

        Three statements must agree; where they contradict each other, the one that warns is believed.
        """
        return self.protected and math.isfinite(self.privacy.epsilon) and not self.privacy.test_noise


class Round(_Value):
    """One line of ``metrics.jsonl``: the shared model after this round."""

    round: Count
    auc: Share
    auc_low: Share
    auc_high: Share
    ks: Share
    epsilon: Epsilon
    seconds: Ratio
    institutions: Count


_ValueT = TypeVar("_ValueT", bound=_Value)


def read_run(folder: Path) -> tuple[Result, tuple[Round, ...]]:
    """Return what a finished run's folder says.

    Raises:
        RunNotFoundError: the folder or one of the two files does not exist.
        StoreCorruptError: a file cannot be read, is not UTF-8 JSON, lacks a field, or has one out of range; the place
            is named.
    """
    result_path, metrics_path = folder / RESULT_FILE, folder / METRICS_FILE
    result = check_result(_json(_text(result_path), path=result_path, place="it"), path=result_path)
    text = _text(metrics_path)
    lines = text.removesuffix("\n").split("\n") if text else []
    values = [_json(line, path=metrics_path, place=f"line {number}") for number, line in enumerate(lines, start=1)]
    return result, check_rounds(values, path=metrics_path)


def check_result(value: object, *, path: Path) -> Result:
    """Return ``value`` as a ``Result``; ``path`` names it in the ``StoreCorruptError`` that anything else raises."""
    return _checked(Result, value, path=path, place="it")


def check_rounds(values: Sequence[object], *, path: Path) -> tuple[Round, ...]:
    """Return ``values`` as rounds, at least one, in rising order; anything else raises ``StoreCorruptError``."""
    rounds = tuple(
        _checked(Round, value, path=path, place=f"line {number}") for number, value in enumerate(values, start=1)
    )
    if not rounds:
        _damaged(path, "it holds no round")
    for number, (before, after) in enumerate(pairwise(rounds), start=2):
        if after.round <= before.round:
            _damaged(path, f"line {number} does not follow the round before it")
    return rounds


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunNotFoundError(place=str(path)) from error
    except UnicodeDecodeError as error:
        raise StoreCorruptError(path=str(path), problem="it is not UTF-8 text") from error
    except OSError as error:
        raise StoreCorruptError(path=str(path), problem="it cannot be read") from error


def _json(text: str, *, path: Path, place: str) -> Any:
    def refuse(_constant: str) -> NoReturn:
        raise StoreCorruptError(path=str(path), problem=f"{place} holds a number that JSON does not have")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(path=str(path), problem=f"{place} is not JSON") from error


def _checked(model: type[_ValueT], value: object, *, path: Path, place: str) -> _ValueT:
    if not isinstance(value, Mapping):
        _damaged(path, f"{place} is not a JSON object")
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        # Only the first problem's place and kind: a value never goes into an error text.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"lacks {where}" if first["type"] == "missing" else f"has a wrong {where} ({first['type']})"
        raise StoreCorruptError(path=str(path), problem=f"{place} {problem}") from None


def _damaged(path: Path, problem: str) -> NoReturn:
    raise StoreCorruptError(path=str(path), problem=problem)
