"""A whole consortium on one machine: folders, keys and approvals of every party, made from a real data set.

The demo plays all parties, so it also does what people do in production: it compares fingerprints and approves the
plan. Everything lies under one folder; deleting it undoes the study.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fedcredit.config.federation import FederationConfig
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan, usual_threshold
from fedcredit.crypto.keys import PublicIdentity
from fedcredit.data.datasets import Dataset, Part, load_dataset
from fedcredit.data.features import encode
from fedcredit.data.splits import holdout_mask
from fedcredit.enrolment import armoured
from fedcredit.errors import AlreadyExistsError, UsageError
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import holdings_of, init_node, join
from fedcredit.lab.settings import Consortium, PrivacyChoice, aggregation_values, plan_values, settings_for
from fedcredit.lab.spreading import spread
from fedcredit.parties import InstitutionId, Member
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import Coordinator, init_coordinator
from fedcredit.store.files import make_directory, write_atomic

SIMULATED: Final = "simulated"
"""The data set that is made up when it is asked for."""
SCENARIO: Final = "missing_modality"
ACCEPTED: Final = ("FC-5032", "FC-5039", "FC-5047")
"""The warnings that a small simulated world has by design: columns in which nothing happened, tables of a few rows, and
customers who have withdrawn their consent (they are left out)."""
CONSORTIUM: Final = "fedcredit-demo"
DELTA: Final = 1e-5
EVALUATION_EPSILON: Final = 1.0
HOLDOUT_FRACTION: Final = 0.2
DATA_FILE: Final = "data.parquet"
DATA_FOLDER: Final = "data"
"""Where a node of a simulated institution has its canonical tables."""
WORLD_FOLDER: Final = "world"
"""What is left of a simulated world: the oracle, which no institution sees, and who is left out of the study."""
ModelKind = Literal["trees", "scorecard", "network"]
NoiseKind = Literal["local", "shared"]
OnRound = Callable[[int, npt.NDArray[np.float64], int], None]
"""Called after each release with the round, the released weights and the number of contributors."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What a user of the demo decides; ``rounds`` of ``None`` takes the recommended number for the data set."""

    dataset: str
    model: ModelKind
    epsilon: float
    rounds: int | None
    seed: int
    test_noise: bool
    deadline_s: float
    noise: NoiseKind = "local"
    aggregation: Literal["secure", "open"] = "secure"
    mechanism: str = "rounded-gaussian"
    colluders: int = 0
    drop_outs: int = 0
    """By how many the quorum is below the number of institutions; the noise pays for it, nobody drops out."""
    retries: int = 1
    scenario: str = SCENARIO
    scale: str = "ci"
    """Which world is simulated, and how large; of ``dataset`` "simulated" only."""
    institutions: int | None = None
    """Spread the rows over so many institutions that hold everything; ``None`` keeps the data set's own parts."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A consortium that is ready to train."""

    folder: Path
    options: StudyOptions
    dataset: Dataset
    plan: RunPlan
    holdings: Mapping[InstitutionId, Holdings]

    @property
    def coordinator_folder(self) -> Path:
        """Return the coordinator's folder."""
        return self.folder / "coordinator"

    def node_config(self, institution: InstitutionId) -> NodeConfig:
        """Return one institution's configuration."""
        return NodeConfig.read(self.node_folder(institution))

    def complete_holdings(self, institution: InstitutionId) -> Holdings:
        """Return one institution's borrowers with every modality of the contract, for scoring on the population."""
        contract = self.dataset.contract
        names = [modality.name for modality in contract.modalities]
        table = encode(self.dataset.parts[institution].complete, contract, names, place=institution)
        late = self.dataset.out_of_time
        return Holdings(institution=institution, contract=contract, table=table, out_of_time=late)

    def node_folder(self, institution: InstitutionId) -> Path:
        """Return one institution's folder."""
        return self.folder / "institutions" / institution


def build_study(folder: Path, options: StudyOptions, *, relay_port: int) -> Study:
    """Make every party's folder under ``folder``, which must not exist, and approve the plan everywhere.

    A study that cannot be made leaves no folder behind.

    Raises:
        UsageError: epsilon is not above 0.
        AlreadyExistsError: the folder exists.
        PrivacyPlanError, NoiseRangeError: no noise gives this epsilon.
        ChecksumError, StorageError: the vendored data or the disk.
        UnknownScenarioError, DataError: the simulated world.
    """
    if not options.epsilon > 0:
        raise UsageError(problem="epsilon must be above 0", hint="Give a number such as 3, or inf for no privacy.")
    if folder.exists():
        raise AlreadyExistsError(path=str(folder))
    make_directory(folder)
    try:
        return _build(folder, options, _dataset(folder, options), relay_port=relay_port)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _dataset(folder: Path, options: StudyOptions) -> Dataset:
    if options.dataset == SIMULATED:
        # Imported here, because a study of real data has no use for the simulator and what it brings along.
        from fedcredit.lab.simulated import simulate_dataset

        world = folder / WORLD_FOLDER
        make_directory(world, mode=0o700)
        return simulate_dataset(world, scenario=options.scenario, scale=options.scale, seed=options.seed)
    dataset = load_dataset(options.dataset)
    if options.institutions is None:
        return dataset
    return spread(dataset, options.institutions, seed=options.seed)


def _build(folder: Path, options: StudyOptions, dataset: Dataset, *, relay_port: int) -> Study:
    coordinator_folder = folder / "coordinator"
    config = FederationConfig.model_validate(
        {
            "schema_version": 1,
            "consortium": CONSORTIUM,
            "relay": {"host": "127.0.0.1", "port": relay_port},
            "holdout": {"salt": _salt(options), "fraction": HOLDOUT_FRACTION},
        }
    )
    init_coordinator(coordinator_folder, config, hosts=["127.0.0.1", "localhost"])
    holdings: dict[InstitutionId, Holdings] = {}
    identities: dict[InstitutionId, str] = {}
    for name in dataset.parts:
        institution = InstitutionId(name)
        node = folder / "institutions" / institution
        node_config = _node_config(dataset, institution, options)
        init_node(node, node_config)
        _give_data(node, dataset.parts[institution])
        identities[institution] = _enrol(coordinator_folder, node).identity_digest
        holdings[institution] = holdings_of(node, node_config)
    plan = study_plan(dataset, options, holdings, identities)
    privacy_plan(plan).describe()  # a claim that no noise can keep is refused before anybody approves it
    for institution in holdings:
        Approvals(folder / "institutions" / institution / "approvals").approve(plan)
    write_atomic(folder / "plan.toml", plan.to_toml().encode())
    return Study(folder=folder, options=options, dataset=dataset, plan=plan, holdings=holdings)


def study_plan(
    dataset: Dataset,
    options: StudyOptions,
    holdings: Mapping[InstitutionId, Holdings],
    identities: Mapping[InstitutionId, str],
) -> RunPlan:
    """Return the plan of a study: the recommended settings of the data set, the user's epsilon and rounds."""
    salt, quorum = _salt(options), len(holdings) - options.drop_outs
    bands = {name: _record_band(part, salt) for name, part in holdings.items()}
    off = math.isinf(options.epsilon)
    privacy = PrivacyChoice(
        epsilon=options.epsilon,
        delta=DELTA,
        evaluation_epsilon=math.inf if off else min(EVALUATION_EPSILON, options.epsilon),
        mechanism=options.mechanism,
        noise=options.noise,
        colluders=options.colluders,
        sampling_rate=1.0,
        test_noise=options.test_noise,
    )
    consortium = Consortium(members=len(holdings), borrowers=sum(bands.values()), quorum=quorum)
    raw = plan_values(
        settings_for(dataset.contract, options.model, privacy, consortium),
        name=f"demo-{dataset.name}",
        consortium=CONSORTIUM,
        contract=dataset.contract,
        rounds=options.rounds,
        holdout=(salt, HOLDOUT_FRACTION),
        out_of_time=dataset.out_of_time,
        privacy=privacy,
        quorum=quorum,
        retries=options.retries,
        deadline_s=options.deadline_s,
        aggregation=aggregation_values(options.aggregation, threshold=min(quorum, usual_threshold(len(holdings)))),
        institutions={
            name: {
                "kind": str(dataset.parts[name].kind),
                "identity": identities[name],
                "expected_borrowers": bands[name],
                "modalities": dataset.parts[name].modalities,
            }
            for name in holdings
        },
    )
    return RunPlan.model_validate(raw)


def _record_band(holdings: Holdings, salt: str) -> int:
    """Return the size of the training part to two significant digits: what a member would tell its consortium."""
    held_out = holdout_mask(holdings.table.entities, salt=salt, fraction=HOLDOUT_FRACTION)
    rows = max(1, int((~held_out).sum()))
    step: int = 10 ** max(0, len(str(rows)) - 2)
    return max(step, round(rows / step) * step)


def _node_config(dataset: Dataset, institution: InstitutionId, options: StudyOptions) -> NodeConfig:
    part = dataset.parts[institution]
    off = math.isinf(options.epsilon)
    return NodeConfig.model_validate(
        {
            "schema_version": 1,
            "institution": institution,
            "kind": str(part.kind),
            "data": {
                "path": DATA_FOLDER if part.canonical else DATA_FILE,
                "contract": dataset.contract.name,
                "modalities": part.modalities,
                "accept": ACCEPTED if part.canonical else (),
            },
            "budget": {
                "epsilon": 1.0 if off else options.epsilon,
                "delta": DELTA,
                "holdout_epsilon": 1.0 if off else min(EVALUATION_EPSILON, options.epsilon),
            },
            "policy": {
                "allow_no_privacy": off,
                "allow_fixed_noise": options.test_noise,
            },
        }
    )


def _give_data(node: Path, part: Part) -> None:
    if part.canonical is None:
        write_atomic(node / DATA_FILE, _parquet(part.table), mode=0o600)
    else:
        part.canonical.rename(node / DATA_FOLDER)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _enrol(coordinator_folder: Path, node: Path) -> Member:
    coordinator = Coordinator(coordinator_folder)
    request = join(node, coordinator.invitation())
    path = node / "request.fcrequest"
    write_atomic(path, armoured(request))
    fingerprint = PublicIdentity.from_bytes(request.identity).fingerprint()
    return coordinator.approve_member(path, fingerprint=fingerprint).member()


def _salt(options: StudyOptions) -> str:
    """Return the public key of a study's split: its seed decides who is held out."""
    return f"study-{options.seed}"
