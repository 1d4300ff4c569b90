"""A coordinator on disk: its folder, its members, and the runs made from it.

federation.toml      consortium, relay address, the public key of the split
keys/identity.key    signing and decryption keys (0600)
tls/                 the relay's own authority and certificate
members/             one approved join request per institution
ledger-heads.json    the head of every institution's privacy ledger, as seen last
runs/RUN/            plan.toml, run.db (audit log), audit.jsonl, checkpoints/, transcripts/, rounds.jsonl,
                     evaluation.json
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import tomlkit

from fedcredit.config.federation import FEDERATION_FILE, FederationConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract, shipped_contract
from fedcredit.contract.canonical.versions import require_spoken_by
from fedcredit.crypto.certificates import issue_server_certificate, make_authority
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity, check_fingerprint
from fedcredit.data.inputs import model_inputs
from fedcredit.enrolment import Invitation, JoinRequest, armoured, read_armoured
from fedcredit.errors import (
    AlreadyExistsError,
    EnrolmentFileError,
    NotAMemberError,
    RunNotFoundError,
    WrongContextError,
)
from fedcredit.parties import InstitutionId, Roster, institution_id
from fedcredit.rounds.heads import HEADS_FILE, LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database
from fedcredit.store.files import make_directory, write_atomic, write_new
from fedcredit.training.families import ModelFamily, model_family
from fedcredit.transport import Clock, Transport

IDENTITY: Final = Path("keys/identity.key")
AUTHORITY: Final = Path("tls/ca.crt")
SERVER_CERTIFICATE: Final = Path("tls/server.crt")
SERVER_KEY: Final = Path("tls/server.key")
MEMBER_SUFFIX: Final = ".fcrequest"
CERTIFICATE_DAYS: Final = 90
AUTHORITY_DAYS: Final = 365


def init_coordinator(
    folder: Path, config: FederationConfig, *, hosts: Sequence[str], passphrase: bytes | None = None
) -> IdentityKeys:
    """Make a coordinator folder with new keys and a relay certificate for ``hosts``; never overwrites one."""
    if (folder / FEDERATION_FILE).exists():
        raise AlreadyExistsError(path=str(folder / FEDERATION_FILE))
    for name in ("keys", "tls", "members", "runs"):
        make_directory(folder / name, mode=0o700)
    keys = IdentityKeys.generate()
    keys.save(folder / IDENTITY, passphrase=passphrase)
    now = datetime.now(UTC)
    authority = make_authority(f"fedcredit {config.consortium}", days=AUTHORITY_DAYS, now=now)
    certificate, key = issue_server_certificate(authority, hosts=hosts, days=CERTIFICATE_DAYS, now=now)
    write_new(folder / AUTHORITY, authority.cert_pem, mode=0o644)
    write_new(folder / SERVER_CERTIFICATE, certificate, mode=0o644)
    write_new(folder / SERVER_KEY, key, mode=0o600)
    write_new(
        folder / FEDERATION_FILE,
        tomlkit.dumps(config.model_dump(mode="python", exclude_none=True)).encode(),
        mode=0o644,
    )
    return keys


class Coordinator:
    """An opened coordinator folder."""

    def __init__(self, folder: Path, *, passphrase: bytes | None = None) -> None:
        self.folder: Final = folder
        self.config: Final = FederationConfig.read(folder)
        self.keys: Final = IdentityKeys.load(folder / IDENTITY, passphrase=passphrase)

    def invitation(self) -> Invitation:
        """Return what institutions need to know; the same for all of them."""
        return Invitation.make(
            consortium=self.config.consortium,
            keys=self.keys,
            relay=f"{self.config.relay.host}:{self.config.relay.port}",
            ca_certificate=(self.folder / AUTHORITY).read_bytes(),
        )

    def approve_member(self, path: Path, *, fingerprint: str) -> JoinRequest:
        """Take a join request into the roster after its fingerprint was compared by a person.

        A member that joins again with the keys that it has, as after an update, takes the place of its own request.

        Raises:
            EnrolmentFileError: it is for another consortium; or the request that is there cannot be read.
            BadSignatureError, FingerprintMismatchError: its keys are not what they should be.
            AlreadyExistsError: a member of that name with other keys is approved.
        """
        request = read_armoured(JoinRequest, path, command="fedcredit node join")
        if request.consortium != self.config.consortium:
            raise EnrolmentFileError(path=str(path), what="join request", problem="it is for another consortium")
        member = request.member()
        check_fingerprint(fingerprint, PublicIdentity.from_bytes(member.public_identity), member.institution)
        path = self._member_path(member.institution)
        if path.exists() and self._approved(path).identity == request.identity:
            write_atomic(path, armoured(request))
        else:
            write_new(path, armoured(request), mode=0o644)
        return request

    def members(self) -> list[JoinRequest]:
        """Return the approved join requests by name; each is verified again."""
        requests = [self._approved(path) for path in sorted((self.folder / "members").glob(f"*{MEMBER_SUFFIX}"))]
        for request in requests:
            request.member()
        return requests

    def _approved(self, path: Path) -> JoinRequest:
        return read_armoured(JoinRequest, path, command="fedcredit coord member approve")

    def supernode_key_path(self, institution: InstitutionId) -> Path:
        """Write the transport key of a member where the relay's registration command finds it."""
        request = next((item for item in self.members() if item.institution == institution), None)
        if request is None:
            raise NotAMemberError(institution=institution)
        path = self.folder / "members" / f"{institution}.pub"
        write_atomic(path, request.supernode_key)
        return path

    def roster(self, plan: RunPlan) -> Roster:
        """Return the signed-in members that a plan names.

        Raises:
            NotAMemberError: the plan names an institution that is not approved.
            RosterMismatchError: it names another key of one.
            SchemaVersionError: one does not speak the contract's version of the canonical data set.
        """
        requests = {request.institution: request for request in self.members()}
        for name in plan.institutions:
            if name not in requests:
                raise NotAMemberError(institution=name)
        named = [requests[name] for name in plan.institutions]
        require_schema(shipped_contract(plan.run.contract), named)
        roster = Roster(tuple(request.member() for request in named))
        plan.require_members(roster)
        return roster

    def open_run(self, run_id: str | None, plan: RunPlan, transport: Transport, *, clock: Clock = time.time) -> OpenRun:
        """Start a run of ``plan``, or resume ``run_id``; the folder's lock keeps a second process out."""
        if plan.run.consortium != self.config.consortium:
            raise WrongContextError(what="run plan", field="consortium")
        identifier = run_id or new_run_id(plan)
        return OpenRun(
            plan=plan,
            run_id=identifier,
            folder=self.folder / "runs" / identifier,
            roster=self.roster(plan),
            keys=self.keys,
            transport=transport,
            heads=LedgerHeads(self.folder / HEADS_FILE),
            clock=clock,
        )

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of an existing run."""
        folder = self.folder / "runs" / run_id
        if not (folder / "plan.toml").is_file():
            raise RunNotFoundError(place=str(folder))
        return folder

    def run_ids(self) -> list[str]:
        """Return the runs of this coordinator, oldest first."""
        return sorted(path.parent.name for path in (self.folder / "runs").glob("*/plan.toml"))

    def _member_path(self, institution: str) -> Path:
        return self.folder / "members" / f"{institution_id(institution)}{MEMBER_SUFFIX}"


class OpenRun(AbstractContextManager["OpenRun"]):
    """A run with its database open."""

    def __init__(
        self,
        *,
        plan: RunPlan,
        run_id: str,
        folder: Path,
        roster: Roster,
        keys: IdentityKeys,
        transport: Transport,
        heads: LedgerHeads,
        clock: Clock,
    ) -> None:
        make_directory(folder)
        self.folder: Final = folder
        self.family: Final[ModelFamily] = plan_family(plan)
        self._database = Database.open(folder / "run.db")
        try:
            self.run: Final = FederatedRun(
                plan=plan,
                run_id=run_id,
                folder=folder,
                database=self._database,
                family=self.family,
                roster=roster,
                keys=keys,
                transport=transport,
                heads=heads,
                clock=clock,
            )
            write_atomic(folder / "plan.toml", plan.to_toml().encode())
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Export the log for readers and close the database, whatever happened."""
        try:
            self.run.audit.export(self.folder / "audit.jsonl")
        finally:
            self._database.close()


def require_schema(contract: Contract, requests: Iterable[JoinRequest]) -> None:
    """Raise ``SchemaVersionError`` unless all ``requests`` state the version of a contract's tables, if it has one."""
    if contract.tables is not None:
        require_spoken_by(contract.tables, {request.institution: request.schemas for request in requests})


def plan_family(plan: RunPlan) -> ModelFamily:
    """Return the model family of a plan; the contract it names must be the one installed here.

    Raises:
        WrongContextError: the installed contract differs from the plan's.
    """
    contract = shipped_contract(plan.run.contract)
    if contract.digest().hex() != plan.run.contract_digest:
        raise WrongContextError(what="run plan", field="data contract")
    return model_family(plan, model_inputs(contract))


def new_run_id(plan: RunPlan) -> str:
    """Return a fresh run id: date, name, and 32 random bits, so that ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{plan.run.name}-{secrets.token_hex(4)}"
