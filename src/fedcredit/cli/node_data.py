"""``fedcredit node check-data`` and ``tokenise``: the institution's own tables, on its own machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.checking.check import DataReport
    from fedcredit.checking.spec import DataSpec
    from fedcredit.checking.tokenise import TokenColumn
    from fedcredit.config.node import NodeConfig
    from fedcredit.data.table import CreditTable

SHOWN_AT_MOST: Final = 25
tokens = typer.Typer(
    help="The consortium's token key: made by members together, never by the coordinator.", no_args_is_help=True
)


@guarded
def check_data(
    target: Annotated[
        Path, typer.Argument(help="A node's folder, a data folder with its manifest, or a mapping.", metavar="NODE")
    ],
    accept: Annotated[
        list[str] | None, typer.Option(help="Code of a warning that a person has looked at; repeat for several.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for data-report.html. Default: beside what is checked.")
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Check the institution's own tables and say what is wrong with them. Nothing leaves.

    At a node on canonical tables, warnings that are accepted are kept in its node.toml. Nothing else is changed.
    """
    from fedcredit.config.node import NODE_FILE, NodeConfig
    from fedcredit.contract import VEHICLE_LOANS, load_contract
    from fedcredit.contract.canonical.examples import check_command, node_command
    from fedcredit.contract.canonical.manifest import MANIFEST_FILE
    from fedcredit.contract.canonical.mapping import MAPPING_FILE
    from fedcredit.features.build import held_modalities
    from fedcredit.features.names import is_canonical

    accepted = frozenset(accept or ())
    _require_acceptable(accepted)
    config = NodeConfig.read(target) if (target / NODE_FILE).exists() else None
    if config is not None and is_canonical(load_contract(config.data.contract)):
        return _check_node(target, config, accepted, report)
    own = target.is_file() or any((target / name).exists() for name in (MANIFEST_FILE, MAPPING_FILE))
    result: dict[str, Any] = {}
    if own:
        checked = _check_tables(target, accepted, report, command=f"fedcredit node check-data {target}")
        if config is None:
            facts, held = checked.spec.facts, held_modalities(checked.spec, load_contract(VEHICLE_LOANS))
            if held:
                next_step(
                    node_command(target, facts.institution_id, facts.type, contract=VEHICLE_LOANS, modalities=held),
                    check_command(accepted),
                )
        result |= checked.record
    if not own or config is not None:
        result |= _check_training_table(target)
    return result


def _check_node(folder: Path, config: NodeConfig, accepted: frozenset[str], report: Path | None) -> dict[str, Any]:
    """Check the canonical tables that a node trains on, and say what training sees of them."""
    from fedcredit.config.node import write_accepted
    from fedcredit.contract import load_contract
    from fedcredit.features.build import training_rows

    known = frozenset(config.data.accept)
    command = f"fedcredit node check-data {folder}"
    checked = _check_tables(folder / config.data.path, accepted | known, report or folder, command=command)
    # A code that was found nowhere is not kept: it would accept what nobody has looked at.
    kept = known | (accepted & checked.codes)
    if kept != known:
        write_accepted(folder, kept)
        done(tr("accepted in node.toml: {codes}", codes=", ".join(sorted(kept))))
    contract, modalities = load_contract(config.data.contract), config.data.modalities
    place, accepted = config.data.path, accepted | known
    made = training_rows(checked.spec, contract, modalities, place=place, accepted=accepted)
    left_out = {reason: count for reason, count in made.left_out.items() if count}
    if left_out:
        reasons = ", ".join(f"{word(reason)} {count:,}" for reason, count in left_out.items())
        note(tr("not learnt from: {reasons}", reasons=reasons))
    return checked.record | _tell_training(folder, made.table) | {"left_out": left_out}


@dataclass(frozen=True)
class _Checked:
    spec: DataSpec
    record: dict[str, Any]
    codes: frozenset[str]
    """Of everything that was found."""


def _check_tables(target: Path, accepted: frozenset[str], report_folder: Path | None, *, command: str) -> _Checked:
    from fedcredit.checking.check import check_data as check
    from fedcredit.checking.spec import read_spec
    from fedcredit.errors import operator_language
    from fedcredit.report.data_page import counts_of, record_of, write_data_report

    folder = report_folder or (target.parent if target.is_file() else target)
    report = check(read_spec(target), scratch=folder)  # what is spilled stays on the institution's own disk
    _tell_tables(report, counts_of)
    _tell_findings(report, accepted)
    page = write_data_report(report, folder, accepted=accepted, language=operator_language())
    done(tr("wrote {path} (it stays on this machine)", path=page))
    report.require_accepted(accepted, command=command)
    record = record_of(report, accepted=accepted) | {"report": str(page)}
    return _Checked(report.spec, record, frozenset(finding.error.code for finding in report.findings))


def _require_acceptable(accepted: frozenset[str]) -> None:
    from fedcredit.errors import REGISTRY, DataError, UsageError

    known = {code for code, kind in REGISTRY.items() if issubclass(kind, DataError) and kind.acceptable}
    for code in sorted(accepted - known):
        raise UsageError(problem=f"{code} cannot be accepted", hint=f"Warnings are: {', '.join(sorted(known))}")


def _tell_tables(report: DataReport, counts: Any) -> None:
    lines = []
    for name, profile in report.profiles.items():
        errors, warnings = counts(report.findings, name)
        figures = [f"{profile.rows:,}", f"{profile.coverage:.1%}", str(errors), str(warnings)]
        lines.append([name, profile.place, *figures])
    heads = [tr("table"), tr("file"), tr("rows"), tr("coverage"), tr("errors"), tr("warnings")]
    table(report.spec.facts.institution_id, heads, lines, left=2)
    for name, profile in report.profiles.items():
        if profile.left_out:
            note(
                tr(
                    "{table}: {count:,} rows are left out, because an earlier row has their key",
                    table=name,
                    count=profile.left_out,
                )
            )


def _tell_findings(report: DataReport, accepted: frozenset[str]) -> None:
    open_findings = [*report.errors, *report.open_warnings(accepted)]
    for item in open_findings[:SHOWN_AT_MOST]:
        sentence = f"{item.error.code} {item.error.describe()}"
        if item.warning:
            note(sentence)
        else:
            say(f" ✗ {sentence}")
        say(f"     {item.error.fix()}")
    if len(open_findings) > SHOWN_AT_MOST:
        say(tr("   and {more} more, in the report", more=len(open_findings) - SHOWN_AT_MOST))
    hidden = len(report.findings) - len(open_findings)
    if hidden:
        done(tr("{count} warnings accepted", count=hidden))


def _check_training_table(folder: Path) -> dict[str, Any]:
    """Read the table that training reads, as training would."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.institution.node import holdings_of

    config = NodeConfig.read(folder)
    return _tell_training(folder, holdings_of(folder, config).table)


def _tell_training(folder: Path, held: CreditTable) -> dict[str, Any]:
    rows = len(held)
    bad = int(held.labels.sum())
    done(
        tr(
            "{borrowers:,} borrowers · {default:.1%} default · modalities {modalities}",
            borrowers=rows,
            default=bad / rows,
            modalities=", ".join(held.modalities),
        )
    )
    if held.dropped:
        note(
            tr(
                "{dropped:,} rows are left out: their borrower has another row, and the unit is the borrower",
                dropped=held.dropped,
            )
        )
    joining = f"fedcredit node join {folder} INVITATION --fingerprint FINGERPRINT"
    next_step(f"{joining}      {tr('(both from the coordinator)')}", f"fedcredit node run {folder}")
    return {"rows": rows, "bad": bad, "dropped": held.dropped, "modalities": list(held.modalities)}


@guarded
def tokenise(
    source: Annotated[Path, typer.Argument(help="Parquet or CSV with plain identifiers.")],
    target: Annotated[Path, typer.Argument(help="The file to write, with tokens in their place.")],
    key: Annotated[Path, typer.Option(help="The consortium's token key.")],
    person: Annotated[list[str] | None, typer.Option(help="Column of identity numbers, or COLUMN=NAME.")] = None,
    enterprise: Annotated[list[str] | None, typer.Option(help="Column of credit codes (USCC), or COLUMN=NAME.")] = None,
    vehicle: Annotated[list[str] | None, typer.Option(help="Column of vehicle numbers (VIN), or COLUMN=NAME.")] = None,
    delimiter: Annotated[str, typer.Option(help="Separator of a CSV file.")] = ",",
    encoding: Annotated[str, typer.Option(help="Encoding of a CSV file.")] = "utf-8",
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Replace identifiers by keyed tokens, inside the institution; every check digit is verified first."""
    from fedcredit.checking.tokenise import tokenise as replace
    from fedcredit.crypto.tokens import TokenKey

    columns = _token_columns(person or [], enterprise or [], vehicle or [])
    token_key = TokenKey.load(key)
    rows = replace(source, target, columns, token_key, delimiter=delimiter, encoding=encoding)
    shown = token_key.fingerprint()
    done(
        tr(
            "wrote {path}: {rows:,} rows, tokens in {columns}",
            path=target,
            rows=rows,
            columns=", ".join(item.name for item in columns),
        )
    )
    say(tr("   key {fingerprint}; delete the file with plain identifiers when you are done", fingerprint=shown))
    return {"path": str(target), "rows": rows, "columns": [item.name for item in columns], "key": shown}


def _token_columns(person: list[str], enterprise: list[str], vehicle: list[str]) -> list[TokenColumn]:
    """Return the columns; one without a name of its own becomes entity_tok or vin_tok."""
    from fedcredit.checking.tokenise import TokenColumn
    from fedcredit.crypto.tokens import IdentifierKind
    from fedcredit.errors import UsageError

    found = []
    for texts, kind, name in (
        (person, IdentifierKind.PERSON, "entity_tok"),
        (enterprise, IdentifierKind.ENTERPRISE, "entity_tok"),
        (vehicle, IdentifierKind.VEHICLE, "vin_tok"),
    ):
        for text in texts:
            column, _, own = text.rpartition("=") if "=" in text else (text, "", name)
            found.append(TokenColumn(column=column, kind=kind, name=own))
    if not found:
        raise UsageError(problem="No column is named", hint="Give --person, --enterprise or --vehicle COLUMN")
    if len({item.name for item in found}) != len(found):
        raise UsageError(problem="Two columns would have one name", hint="Give COLUMN=NAME for one of them")
    return found


@tokens.command("contribute")
@guarded
def contribute(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Make this member's part of the token key. It goes to the other members by hand, never to the coordinator."""
    from fedcredit.crypto.tokens import make_contribution

    make_contribution(file)
    done(tr("wrote {path}: give it to the other members by hand, never to the coordinator", path=file))
    next_step("fedcredit node tokens combine TOKEN.key OWN.part OTHER.part ...")
    return {"path": str(file)}


@tokens.command("combine")
@guarded
def combine(
    file: Annotated[Path, typer.Argument(help="The key file to write.")],
    parts: Annotated[list[Path], typer.Argument(help="The contributions of all members.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Make the token key from the contributions of all members; all get the same fingerprint."""
    from fedcredit.crypto.tokens import TokenKey, read_contribution
    from fedcredit.errors import UsageError

    contributions = [read_contribution(part) for part in parts]
    try:
        key = TokenKey.combine(contributions)
    except ValueError:
        hint = "Collect the files of all members, each once"
        raise UsageError(problem="A token key needs contributions of two members at least", hint=hint) from None
    key.save(file)
    done(tr("wrote {path} from {count} contributions (it never leaves)", path=file, count=len(set(contributions))))
    say(tr("   fingerprint {fingerprint}   ← all members must read the same", fingerprint=key.fingerprint()))
    next_step(f"fedcredit node tokenise PLAIN.csv TOKENS.csv --key {file} --person COLUMN")
    return {"path": str(file), "fingerprint": key.fingerprint()}
