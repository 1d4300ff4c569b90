"""A node on disk: the folder of one institution, and the worker made from it.

node.toml            the private configuration
keys/identity.key    signing and decryption keys (0600)
keys/supernode[.pub] transport key of the SuperNode
keys/relay-ca.crt    the relay's certificate authority, once joined
coordinator.fcinvite the pinned coordinator, once joined
approvals/           one file per approved plan
state/node.db        privacy ledger, run memory, audit log
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import tomlkit

from fedcredit.audit.log import AuditLog
from fedcredit.config.node import NODE_FILE, NodeConfig
from fedcredit.config.reading import validate
from fedcredit.contract import load_contract
from fedcredit.contract.canonical.versions import SPOKEN
from fedcredit.crypto.certificates import make_supernode_key
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.data.tables import read_table
from fedcredit.enrolment import Invitation, JoinRequest, armoured, read_armoured
from fedcredit.errors import AlreadyExistsError
from fedcredit.features.names import is_canonical
from fedcredit.institution.admission import Admission, Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.memory import RunMemory
from fedcredit.institution.releases import MakeSums, NoisedSums
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.parties import InstitutionId, InstitutionType
from fedcredit.privacy.ledger import CAP_KEYS, PrivacyLedger
from fedcredit.privacy.ledger_record import LedgerRecord
from fedcredit.privacy.plan import HOLDOUT, TRAIN
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.database import Database
from fedcredit.store.files import make_directory, storage_error, write_atomic, write_new
from fedcredit.store.journal import Journal

IDENTITY: Final = Path("keys/identity.key")
SUPERNODE: Final = Path("keys/supernode")
INVITATION: Final = Path("coordinator.fcinvite")
CA_CERTIFICATE: Final = Path("keys/relay-ca.crt")
STATE: Final = Path("state/node.db")
LEDGER: Final = "privacy-ledger"
"""The name of the ledger's journal; it enters every digest of the chain."""
AUDIT: Final = "audit"
"""The name of the log's journal."""


def init_node(folder: Path, config: NodeConfig, *, passphrase: bytes | None = None) -> IdentityKeys:
    """Make a node folder with new keys; an existing node is never overwritten."""
    if (folder / NODE_FILE).exists():
        raise AlreadyExistsError(path=str(folder / NODE_FILE))
    make_directory(folder, mode=0o700)
    make_directory(folder / "keys", mode=0o700)
    make_directory(folder / "state", mode=0o700)
    keys = IdentityKeys.generate()
    keys.save(folder / IDENTITY, passphrase=passphrase)
    private, public = make_supernode_key()
    write_new(folder / SUPERNODE, private, mode=0o600)
    write_new(folder / SUPERNODE.with_suffix(".pub"), public, mode=0o644)
    # Written last: a folder with node.toml is complete.
    write_new(folder / NODE_FILE, _to_toml(config).encode(), mode=0o600)
    return keys


def join(folder: Path, invitation: Invitation, *, passphrase: bytes | None = None) -> JoinRequest:
    """Pin the coordinator of an invitation and return the signed join request."""
    invitation.require_signed()
    config = NodeConfig.read(folder)
    keys = IdentityKeys.load(folder / IDENTITY, passphrase=passphrase)
    write_atomic(folder / INVITATION, armoured(invitation))
    write_atomic(folder / CA_CERTIFICATE, invitation.ca_certificate)
    return JoinRequest.make(
        consortium=invitation.consortium,
        institution=config.name,
        kind=config.kind,
        keys=keys,
        supernode=(folder / SUPERNODE.with_suffix(".pub")).read_bytes(),
        schemas=SPOKEN,
    )


def read_invitation(folder: Path) -> Invitation:
    """Return the coordinator that this node has joined."""
    invitation = read_armoured(
        Invitation, folder / INVITATION, command=f"fedcredit node join {folder} INVITATION --fingerprint …"
    )
    invitation.require_signed()
    return invitation


def holdings_of(folder: Path, config: NodeConfig) -> Holdings:
    """Read what the institution trains on, through its contract.

    A contract on canonical tables has its features made here, from tables that are checked first, every time: nothing
    reaches training that did not pass. Any other contract describes one table of the institution.

    Raises:
        DataRefusedError, UnacceptedWarningError: the canonical tables did not pass.
        DataError, SetupError: as ``features.build.training_rows`` and ``data.read_table``.
    """
    contract = load_contract(config.data.contract)
    if is_canonical(contract):
        # Imported here, because a node on one table has no use for what checking brings along.
        from fedcredit.institution.own_tables import own_holdings

        return own_holdings(folder, config, contract, scratch=folder / STATE.parent)
    table = read_table(folder / config.data.path, contract, modalities=config.data.modalities)
    return Holdings(institution=config.name, contract=contract, table=table)


@dataclass(frozen=True)
class NodeState:
    """The durable state of a node, opened by at most one process."""

    database: Database
    ledger: PrivacyLedger
    audit: AuditLog
    memory: RunMemory

    @classmethod
    def open(
        cls,
        database: Database,
        config: NodeConfig,
        *,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Open ledger, log and memory; a damaged ledger or log raises and nothing is released.

        The state folder alone carries all of it: a new installation, or a new node folder of the same institution with
        the old state copied in, goes on where the old one stopped.
        """
        ledger = PrivacyLedger(
            Journal(database, LEDGER),
            place=database.place,
            owner=config.name,
            caps=_configured_caps(config),
            allow_no_privacy=config.policy.allow_no_privacy,
            allow_fixed_noise=config.policy.allow_fixed_noise,
            clock=clock,
            entropy=entropy,
        )
        audit = AuditLog(Journal(database, AUDIT))
        audit.verify()
        return cls(database, ledger, audit, RunMemory(database, entropy=entropy))


@dataclass(frozen=True, kw_only=True)
class NodeRecord:
    """What the state of a node says to people who look: reading writes nothing, and nothing can be charged here."""

    ledger: LedgerRecord
    caps: Mapping[str, BudgetCap]
    """Those of node.toml, which count: none is above the ledger's."""
    audit: AuditLog

    @classmethod
    @contextlib.contextmanager
    def read(cls, folder: Path, config: NodeConfig) -> Iterator[Self]:
        """Return a context with the record of the node in ``folder``, which must not be running.

        A node that never ran has no state: nothing is spent, and node.toml alone says the caps. The ledger is made
        when the node first runs. By looking alone its caps would be fixed for good, and two people would be needed to
        correct one. Entries can be read inside the context only.

        Raises:
            StateDirInUseError: the node is running.
            LedgerCorruptError, AuditError: the ledger or the log does not verify.
            LedgerOwnerError, PrivacyPlanError, CapMismatchError: as ``PrivacyLedger``; the node would not open either.
            StorageError: the state cannot be read.
        """
        path = folder / STATE
        with Database.open(path) if has_state(folder) else Database.in_memory() as database:
            ledger = LedgerRecord(Journal(database, LEDGER), place=str(path))
            ledger.require_owner(config.name)
            caps = _configured_caps(config)
            ledger.require_caps(caps, keys=CAP_KEYS)
            audit = AuditLog(Journal(database, AUDIT))
            audit.verify()
            yield cls(ledger=ledger, caps=caps, audit=audit)

    def spent(self, partition: str) -> Spending:
        """Return what ``partition``, one of ``caps``, has spent."""
        known = self.ledger.spent(partition)
        return Spending.none(self.caps[partition].delta) if known is None else known


def has_state(folder: Path) -> bool:
    """Return whether the node in ``folder`` has a database; opening an absent or empty one would make a new one.

    Raises:
        NotWritableError: the operating system does not tell.
    """
    path = folder / STATE
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(path, error) from error


class Node:
    """An opened node: its configuration, its state, and the worker that answers requests."""

    def __init__(self, *, config: NodeConfig, state: NodeState, worker: InstitutionWorker, holdings: Holdings) -> None:
        self.config: Final = config
        self.state: Final = state
        self.worker: Final = worker
        self.holdings: Final = holdings

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        passphrase: bytes | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Open the node in ``folder``. This is the composition root of an institution: the sources are named here."""
        config = NodeConfig.read(folder)
        invitation = read_invitation(folder)
        keys = IdentityKeys.load(folder / IDENTITY, passphrase=passphrase)
        holdings = holdings_of(folder, config)
        state = NodeState.open(Database.open(folder / STATE), config, clock=clock)
        worker = assemble_worker(
            config=config,
            consortium=invitation.consortium,
            coordinator=invitation.coordinator,
            holdings=holdings,
            keys=keys,
            approvals=Approvals(folder / "approvals"),
            state=state,
            entropy=entropy,
            clock=clock,
        )
        return cls(config=config, state=state, worker=worker, holdings=holdings)

    def close(self) -> None:
        """Close the state."""
        self.state.database.close()


def assemble_worker(
    *,
    config: NodeConfig,
    consortium: str,
    coordinator: bytes,
    holdings: Holdings,
    keys: IdentityKeys,
    approvals: Approvals,
    state: NodeState,
    entropy: Callable[[int], bytes],
    clock: Callable[[], float],
    make_sums: MakeSums = NoisedSums,
) -> InstitutionWorker:
    """Return the worker over opened parts; tests and benchmarks assemble one without a folder.

    ``make_sums`` is replaced where sums must be foreseen (``tests/simulation``); left out, sums are charged and noised.
    """
    admission = Admission(
        institution=config.name,
        own_identity=keys.public.to_bytes(),
        contract_name=holdings.contract.name,
        contract_digest=holdings.contract.digest().hex(),
        approvals=approvals,
        policy=config.policy,
        memory=state.memory,
        clock=clock,
    )
    return InstitutionWorker(
        consortium=consortium,
        holdings=holdings,
        keys=keys,
        coordinator=PublicIdentity.from_bytes(coordinator),
        admission=admission,
        ledger=state.ledger,
        audit=state.audit,
        sums=make_sums(institution=config.name, ledger=state.ledger, entropy=entropy),
        entropy=entropy,
    )


def node_config(
    *,
    institution: InstitutionId,
    kind: InstitutionType,
    data_path: str,
    contract: str,
    modalities: tuple[str, ...],
    epsilon: float,
    delta: float,
    holdout_epsilon: float,
) -> NodeConfig:
    """Return a configuration with the refusing default policy.

    Raises:
        ConfigValueError: a value is outside its range.
    """
    return validate(
        NodeConfig,
        {
            "schema_version": 1,
            "institution": institution,
            "kind": kind,
            "data": {"path": data_path, "contract": contract, "modalities": modalities},
            "budget": {"epsilon": epsilon, "delta": delta, "holdout_epsilon": holdout_epsilon},
        },
        source="fedcredit node init",
    )


def _configured_caps(config: NodeConfig) -> dict[str, BudgetCap]:
    budget = config.budget
    return {
        TRAIN: BudgetCap(epsilon=budget.epsilon, delta=budget.delta),
        HOLDOUT: BudgetCap(epsilon=budget.holdout_epsilon, delta=budget.delta),
    }


def _to_toml(config: NodeConfig) -> str:
    return tomlkit.dumps(config.model_dump(mode="json", exclude_none=True))
