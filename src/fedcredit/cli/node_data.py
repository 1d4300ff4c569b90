"""``fedcredit node check-data`` and ``tokenise``: the institution's own tables, on its own machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.texts import tr

if TYPE_CHECKING:
    from fedcredit.checking.check import DataReport
    from fedcredit.checking.findings import Finding
    from fedcredit.checking.tokenise import TokenColumn

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
    """Check the institution's own tables and say what is wrong with them. Nothing leaves; nothing is changed."""
    from fedcredit.config.node import NODE_FILE
    from fedcredit.contract.canonical.manifest import MANIFEST_FILE
    from fedcredit.contract.canonical.mapping import MAPPING_FILE

    own = target.is_file() or any((target / name).exists() for name in (MANIFEST_FILE, MAPPING_FILE))
    result: dict[str, Any] = {}
    if own:
        result |= _check_tables(target, frozenset(accept or ()), report)
    if not own or (target / NODE_FILE).exists():
        result |= _check_training_table(target)
    return result


def _check_tables(target: Path, accepted: frozenset[str], report_folder: Path | None) -> dict[str, Any]:
    from fedcredit.checking.check import check_data as check
    from fedcredit.checking.spec import read_spec
    from fedcredit.config.node import NODE_FILE
    from fedcredit.errors import DataRefusedError, UnacceptedWarningError, operator_language
    from fedcredit.report.data_page import counts_of, record_of, write_data_report

    _require_acceptable(accepted)
    folder = report_folder or (target.parent if target.is_file() else target)
    report = check(read_spec(target), scratch=folder)  # what is spilled stays on the institution's own disk
    _tell_tables(report, counts_of)
    _tell_findings(report, accepted)
    page = write_data_report(report, folder, accepted=accepted, language=operator_language())
    done(tr("wrote {path} (it stays on this machine)", path=page))
    errors, warnings = report.errors, report.open_warnings(accepted)
    command = f"fedcredit node check-data {target}"
    if errors:
        tables = ", ".join(dict.fromkeys(item.table for item in errors))
        raise DataRefusedError(errors=len(errors), tables=tables, codes=_codes(errors), command=command)
    if warnings:
        options = " ".join(f"--accept {code}" for code in dict.fromkeys(item.error.code for item in warnings))
        command = f"{command} {options}"
        raise UnacceptedWarningError(warnings=len(warnings), codes=_codes(warnings), command=command)
    facts = report.spec.facts
    if not (target / NODE_FILE).exists():
        next_step(f"fedcredit node init NODE --name {facts.institution_id} --type {facts.type} --data TABLE ...")
    return record_of(report, accepted=accepted) | {"report": str(page)}


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


def _codes(findings: tuple[Finding, ...]) -> str:
    return ", ".join(sorted({item.error.code for item in findings}))


def _check_training_table(folder: Path) -> dict[str, Any]:
    """Read the table that training reads, as training would."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.institution.node import holdings_of

    config = NodeConfig.read(folder)
    held = holdings_of(folder, config).table
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
