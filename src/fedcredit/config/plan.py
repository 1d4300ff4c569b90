"""The run plan: everything the institutions agree on before a run. Its digest is the identity of the run."""

from __future__ import annotations

import datetime
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, cast

import tomlkit
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from fedcredit.config.reading import Section, parse_toml, read_toml, validate
from fedcredit.encoding import Encodable, digest
from fedcredit.errors import RosterMismatchError
from fedcredit.parties import InstitutionId, InstitutionType, Roster, institution_id

SCHEMA_VERSION: Final = 3


def _real(value: object) -> object:
    # TOML writers drop ".0"; an integer is an honest real number, a boolean is not.
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("must be a number of ordinary size") from error


def _normal(value: str) -> str:
    # Digests cover normal form C only; two spellings of one text must not be two plans.
    if not unicodedata.is_normalized("NFC", value):
        raise ValueError("must be text in Unicode normal form C")
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return _real(value)


Real = Annotated[float, BeforeValidator(_finite)]
Epsilon = Annotated[float, BeforeValidator(_real), Field(gt=0)]
"""A privacy loss; ``inf`` is a value that a plan can say aloud."""
Positive = Annotated[Real, Field(gt=0)]
Text = Annotated[str, AfterValidator(_normal)]


def _floor(value: object) -> object:
    value = _real(value)
    # Written so that NaN is refused as well.
    if value != NOBODY_VOTES and not (isinstance(value, float) and 0.5 < value < 1):
        raise ValueError('must be "none", or an AUC strictly between 0.5 and 1')
    return value


NOBODY_VOTES: Final = "none"
VoteFloor = Annotated[float | Literal["none"], BeforeValidator(_floor)]
Kind = Annotated[InstitutionType, Field(strict=False)]
HoldoutFraction = Annotated[Real, Field(ge=0.05, le=0.5)]
"""A tiny held-out part could be made to hold one borrower, chosen by whoever draws the salt."""


class RunSection(Section):
    """What is trained, on which contract."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    consortium: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    contract: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    """Name of a shipped data contract, never a path: a plan must not choose which file a party opens."""
    contract_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    holdout_fraction: HoldoutFraction
    holdout_salt: Annotated[Text, Field(min_length=1, max_length=64)]
    """Public key of the borrower-disjoint split; the same borrower is held out everywhere."""
    out_of_time: datetime.date | None = None
    """First day of observation that nobody trains on; for contracts on canonical tables."""


class ModelSection(Section):
    """Which model family; all are trained by the same engine."""

    kind: Literal["trees", "scorecard", "network", "logistic"]
    width: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Hidden width of the network; absent for the others."""
    depth: Annotated[int, Field(ge=1, le=8)] | None = None
    """Splits from root to leaf of a tree; absent for the others."""
    trees_per_round: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Trees that share one round's gradients; absent for the others."""
    structure_seed: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Public seed of the trees' splits; absent for the others."""
    base_rate: Annotated[Real, Field(gt=0, lt=1)]
    """Public guess of the default rate; training starts from it, so no round is spent on finding the level."""

    @model_validator(mode="after")
    def _parts_belong_to_their_model(self) -> Self:
        if (self.kind == "network") != (self.width is not None):
            raise ValueError('width is needed for kind = "network" and only there')
        for name in ("depth", "trees_per_round", "structure_seed"):
            if (self.kind == "trees") != (getattr(self, name) is not None):
                raise ValueError(f'{name} is needed for kind = "trees" and only there')
        return self


MIN_HONEST_SHARES: Final = 3
"""A sum hides an update among at least this many honest contributors (PROTOCOL.md section 1)."""
MIN_HIDDEN: Final = 2
"""Honest members below which masks hide nothing: a sum of one is its member's numbers."""
SMALLEST_CLIP: Final = 1e-6
LARGEST_CLIP: Final = 1e6
"""Outside these, squared norms leave the range of float64 and a gradient would pass unclipped."""


class GradientTraining(Section):
    """One full-batch step per round on clipped, summed, noised per-borrower gradients."""

    kind: Literal["dp-gradient"]
    learning_rate: Positive
    momentum: Annotated[Real, Field(ge=0, lt=1)]
    """Nesterov momentum of the server's step."""
    clip: Annotated[Real, Field(ge=SMALLEST_CLIP, le=LARGEST_CLIP)]
    """Bound of one borrower's gradient: of the residual for the scorecard, of the L2 norm for the network."""
    grid: Annotated[int, Field(ge=2, le=1_000_000)]
    """Integer steps per clip bound; the released sums are integers on this grid."""
    average_from: Annotated[Real, Field(ge=0, le=1)]
    """Fraction of the rounds after which the released model is the average of the iterates."""


class FedAvgTraining(Section):
    """Local epochs and weight averaging; without a per-borrower bound, so only without differential privacy."""

    kind: Literal["fedavg"]
    learning_rate: Positive
    local_epochs: Annotated[int, Field(ge=1, le=100)]
    batch_size: Annotated[int, Field(ge=1)]
    seed: int


class BoostingTraining(Section):
    """Gradient boosting of trees with public random splits: one round adds trees, from noised sums of their leaves."""

    kind: Literal["dp-boosting"]
    learning_rate: Positive
    clip: Annotated[Real, Field(ge=0.01, le=1)]
    """Bound of one borrower's residual in a leaf's sum."""
    grid: Annotated[int, Field(ge=2, le=10_000)]
    """Integer steps per unit of residual; the released sums are integers on this grid."""
    ridge: Positive
    """Borrowers' worth of curvature added to every leaf: it shrinks leaves that hold little but noise."""
    leaf_limit: Positive
    """Bound of one leaf's score before the learning rate."""


TrainingSection: TypeAlias = Annotated[
    GradientTraining | BoostingTraining | FedAvgTraining, Field(discriminator="kind")
]


class PrivacySection(Section):
    """The claim that the run makes to every borrower, per institution, over the whole run."""

    mechanism: Literal["rounded-gaussian", "skellam", "discrete-gaussian", "none"]
    accountant: Literal["gdp", "rdp", "none"]
    """``gdp``: exact, for the rounded Gaussian on full batches. ``rdp``: Renyi, for everything else that has noise."""
    noise: Literal["local", "shared"]
    """``local``: every message is private alone. ``shared``: only the sum is, under secure aggregation."""
    colluders: Annotated[int, Field(ge=0)]
    """Institutions that may work together with the coordinator: their noise does not count, and masks must hold against
    all of them. 0 with open aggregation, which trusts nobody to hide anything."""
    sampling: Literal["full-batch", "poisson"]
    sampling_rate: Annotated[Real, Field(gt=0, le=1)]
    """Chance of each borrower to take part in a round; 1 for full batches."""
    preparation_share: Annotated[Real, Field(ge=0, le=0.5)]
    """Part of the training budget for one histogram before the first round, from which category order follows."""
    epsilon: Epsilon
    delta: Annotated[Real, Field(gt=0, lt=0.001)]
    unit: Literal["borrower"]
    neighbours: Literal["add-or-remove-one"]
    evaluation_epsilon: Epsilon
    """Epsilon of all ``1 + retries`` releases of score counts on the held-out borrowers together."""
    test_noise: bool = False
    """Repeatable noise for bit-equality tests; protects nobody, and institutions refuse it by default."""

    @model_validator(mode="after")
    def _off_is_said_aloud(self) -> Self:
        off = math.isinf(self.epsilon) or math.isinf(self.evaluation_epsilon)
        if math.isnan(self.epsilon) or math.isnan(self.evaluation_epsilon):
            raise ValueError("epsilon is not a number")
        if (self.mechanism == "none") != off or math.isinf(self.epsilon) != math.isinf(self.evaluation_epsilon):
            raise ValueError('mechanism = "none" and epsilon = inf (both of them) belong together')
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if (self.sampling == "full-batch") != (self.sampling_rate == 1):
            raise ValueError('sampling_rate = 1 and sampling = "full-batch" belong together')
        if abs(self.sampling_rate * SAMPLING_STEPS - self.sampled_per_million) > 1e-6:
            raise ValueError("sampling_rate must be a whole number of millionths")
        if self.sampling == "poisson" and self.noise == "shared":
            raise ValueError('sampling = "poisson" goes with noise = "local" only')
        if self.mechanism == "none" and (self.noise == "shared" or self.accountant != "none"):
            raise ValueError('mechanism = "none" goes with noise = "local" and accountant = "none"')
        return self

    @property
    def sampled_per_million(self) -> int:
        """Return the sampling rate in whole millionths."""
        return round(self.sampling_rate * SAMPLING_STEPS)


SAMPLING_STEPS: Final = 1_000_000
"""Sampling rates are whole millionths, so that a stored release can state them as an integer."""


class RoundSection(Section):
    """When a round counts."""

    quorum: Annotated[int, Field(ge=1)]
    retries: Annotated[int, Field(ge=0, le=1000)]
    """Failed attempts of all training rounds together, and as many again of the preparation and of the evaluation, that
    the noise pays for; institutions refuse any further one."""
    deadline_s: Positive


UpdateBoundChoice = Literal["share", "none"]
"""``share``: every institution shortens its training sums to its share of the last one (``training.update_bound``).
``none``: one institution can carry the sum; every institution sees and approves that."""


class SecureAggregation(Section):
    """Only the sum over a cohort can be read, by anybody."""

    kind: Literal["secure"]
    threshold: Annotated[int, Field(ge=2)]
    """Members who must agree on whose messages are added up, and whose shares then open the sum."""
    lane_bits: Literal[16, 32]
    """Numbers travel modulo 2^lane_bits; a plan whose sums could wrap is refused."""
    update_bound: UpdateBoundChoice


class OpenAggregation(Section):
    """The coordinator reads every institution's noised message: a decision that every institution sees and approves."""

    kind: Literal["open"]
    update_bound: UpdateBoundChoice


AggregationSection: TypeAlias = Annotated[SecureAggregation | OpenAggregation, Field(discriminator="kind")]


class EvaluationSection(Section):
    """Who says whether the model is released, on which held-out figures."""

    vote_floor: VoteFloor
    """Least AUC of a model that an institution does not vote against, or ``none``: nobody votes."""
    vote_share: Annotated[Real, Field(ge=0, le=0.5)]
    """Part of the evaluation's budget for counts of an institution's own, on which it votes. Needed where noise is
    shared: the counts in the sum then carry a share only. Elsewhere 0: the vote follows from what was released."""


COMPLETE_UP_TO: Final = 64
"""Largest cohort in which every member shares masks with every other (``secagg.cohort``)."""


def usual_threshold(members: int) -> int:
    """Return two thirds of the members and one more: the largest guard against two cohorts that still lets a third
    drop out (PROTOCOL.md 4.4).
    """
    return 2 * members // 3 + 1


class InstitutionSection(Section):
    """What is public about one institution."""

    kind: Kind
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of its public keys; the first 20 digits are its fingerprint. Who approves the plan approves these keys: a
    coordinator that invented the other members would read the only real one's numbers through any sum."""
    expected_borrowers: Annotated[int, Field(ge=1, le=100_000_000)]
    """Public size of its training set (a record band); the exact number is private."""
    modalities: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]


class RunPlan(Section):
    """A whole plan; equal plans have equal digests, whatever their file looks like."""

    schema_version: Literal[3]
    run: RunSection
    model: ModelSection
    training: TrainingSection
    privacy: PrivacySection
    rounds: RoundSection
    aggregation: AggregationSection
    evaluation: EvaluationSection
    institutions: Mapping[str, InstitutionSection]

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for name in self.institutions:
            institution_id(name)
        if not self.institutions:
            raise ValueError("no institutions")
        if self.rounds.quorum > len(self.institutions):
            raise ValueError(f"rounds.quorum is above the number of institutions, {len(self.institutions)}")
        if self.privacy.noise == "shared" and self.rounds.quorum - self.privacy.colluders < MIN_HONEST_SHARES:
            raise ValueError(f"rounds.quorum minus privacy.colluders must be at least {MIN_HONEST_SHARES}")
        return self

    @model_validator(mode="after")
    def _aggregation_fits(self) -> Self:
        aggregation, colluders = self.aggregation, self.privacy.colluders
        if isinstance(aggregation, OpenAggregation):
            if self.privacy.noise == "shared" or colluders:
                raise ValueError('noise = "shared" and colluders need aggregation.kind = "secure"')
            return self
        members, threshold = len(self.institutions), aggregation.threshold
        if threshold > self.rounds.quorum:
            raise ValueError("aggregation.threshold is above rounds.quorum")
        if 2 * threshold - members <= colluders:
            raise ValueError(
                f"2 * aggregation.threshold - {members} institutions must be above privacy.colluders: otherwise two "
                "conflicting cohorts could both be opened"
            )
        if self.rounds.quorum - colluders < MIN_HIDDEN:
            raise ValueError(
                f"rounds.quorum minus privacy.colluders must be at least {MIN_HIDDEN}: a sum of one hides nothing"
            )
        return self

    @model_validator(mode="after")
    def _votes_fit(self) -> Self:
        own = self.vote_floor is not None and self.privacy.noise == "shared"
        if own != (self.evaluation.vote_share > 0):
            raise ValueError('evaluation.vote_share is above 0 for votes with noise = "shared" and only there')
        if self.vote_floor is not None and self.rounds.quorum <= 2 * self.privacy.colluders:
            raise ValueError(
                "votes need a rounds.quorum above twice privacy.colluders: otherwise colluders who abstain could block "
                'a model; set evaluation.vote_floor = "none"'
            )
        return self

    @model_validator(mode="after")
    def _training_fits(self) -> Self:
        if self.training.kind == "fedavg" and self.privacy.mechanism != "none":
            raise ValueError("fedavg has no per-borrower bound and cannot be trained with differential privacy")
        if self.training.kind == "fedavg" and self.bounds_updates:
            raise ValueError('fedavg has no per-borrower bound: it needs aggregation.update_bound = "none"')
        if (self.model.kind == "trees") != (self.training.kind == "dp-boosting"):
            raise ValueError('model.kind = "trees" and training.kind = "dp-boosting" belong together')
        if self.privacy.preparation_share and self.model.kind != "trees":
            raise ValueError('preparation_share has a use for model.kind = "trees" only')
        if self.privacy.preparation_share and self.privacy.mechanism not in {"rounded-gaussian", "none"}:
            raise ValueError('preparation_share goes with mechanism = "rounded-gaussian" only')
        if self.privacy.sampling == "poisson" and self.training.kind != "dp-gradient":
            raise ValueError('sampling = "poisson" goes with training.kind = "dp-gradient" only')
        return self

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        if len({section.identity for section in self.institutions.values()}) != len(self.institutions):
            raise ValueError("names one identity for two institutions")
        return self

    @property
    def honest_shares(self) -> int:
        """Return how many noise shares carry the claim: quorum minus colluders, or 1 for local noise."""
        return self.rounds.quorum - self.privacy.colluders if self.privacy.noise == "shared" else 1

    @property
    def secure(self) -> SecureAggregation | None:
        """Return the secure aggregation that the plan asks for; ``None`` for an open one."""
        return self.aggregation if isinstance(self.aggregation, SecureAggregation) else None

    @property
    def bounds_updates(self) -> bool:
        """Return whether every institution bounds its training sums."""
        return self.aggregation.update_bound == "share"

    @property
    def vote_floor(self) -> float | None:
        """Return the least AUC that nobody votes against; ``None`` if nobody votes."""
        floor = self.evaluation.vote_floor
        return None if isinstance(floor, str) else floor

    @property
    def trees(self) -> int:
        """Return the number of trees after the last round."""
        return self.run.rounds * (self.model.trees_per_round or 0)

    @classmethod
    def read(cls, path: Path) -> RunPlan:
        """Read a plan file; see ``reading`` for the errors."""
        return validate(cls, read_toml(path, what="run plan", command="fedcredit coord plan new"), source=str(path))

    @classmethod
    def from_toml(cls, text: str, *, source: str) -> RunPlan:
        """Read a plan from TOML text."""
        return validate(cls, parse_toml(text, source=source), source=source)

    def to_toml(self) -> str:
        """Return the plan as TOML that reads back as an equal plan."""
        return tomlkit.dumps(_without_none(self.model_dump(mode="python")))

    def digest(self) -> bytes:
        """Return SHA-256 over the canonical values; real numbers enter as their shortest decimal text."""
        return digest(_canonical(_without_none(self.model_dump(mode="python"))))

    def expected_borrowers(self) -> dict[InstitutionId, int]:
        """Return the public size of every institution."""
        return {InstitutionId(name): section.expected_borrowers for name, section in self.institutions.items()}

    def require_members(self, roster: Roster) -> None:
        """Return if ``roster`` has the plan's institutions, nobody else, and the keys that the plan names.

        Raises:
            RosterMismatchError: it has not; the first institution in question is named.
        """
        for name in sorted({*self.institutions} | {member.institution for member in roster}):
            section, member = self.institutions.get(name), roster.find(InstitutionId(name))
            if section is None or member is None or member.identity_digest != section.identity:
                raise RosterMismatchError(institution=name)

    def modalities(self, institution: InstitutionId) -> tuple[str, ...]:
        """Return the modalities that ``institution`` has declared."""
        return self.institutions[institution].modalities


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return str(value) if isinstance(value, InstitutionType) else value


def _canonical(value: Any) -> Encodable:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    plain = value.isoformat() if isinstance(value, datetime.date) else value
    return repr(plain) if isinstance(plain, float) else cast(Encodable, plain)
