"""Example files for a new node, written from the canonical set: a mapping, a label map, a node configuration.

They are files to edit. Columns of the minimum set are active under their own names; the rest stands in comments.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fedcredit.contract.canonical.loading import canonical
from fedcredit.contract.canonical.table import CanonicalSet, CanonicalTable, ColumnRule
from fedcredit.contract.loading import VEHICLE_LOANS
from fedcredit.parties import InstitutionType

_HEAD: Final = """\
# mapping.toml: where the tables of {name} lie and what their columns mean.         数据映射:各表位置与字段含义
# Edit it until this says what is true, then run:   fedcredit node check-data {folder}
# Nothing in this file, and nothing that it names, ever leaves the institution.
#
# A column, left the contract's name, right yours:       左为规范字段名,右为贵机构字段名
#   amount    = "LOAN_AMT"                                        as it is
#   amount    = {{ column = "LOAN_AMT", unit = "10k CNY" }}         another unit (万元)
#   apr       = {{ column = "RATE", unit = "%" }}
#   orig_date = {{ column = "OPEN_DT", format = "%Y%m%d" }}         another format of dates
#   income_m  = {{ column = "INCOME", empty = -1 }}                 an empty cell means: -1 not collected, -2 not
#                                                                 applicable, -3 refused or withdrawn, -4 sensor gap
#   income_m  = {{ column = "INCOME", typed = true }}               -1 to -4 are such codes in your own table already
#   product   = {{ column = "PROD", codes = {{ "01" = "new_car", "02" = "used_car" }} }}
#   ent_type  = {{ constant = "consumer" }}                         the same for all rows
# A table, in place of file:   url = "env:RISK_DB_URL"   query = "SELECT ... FROM ..."    (SQLAlchemy; read only)
# How a file is written:       delimiter = ";"  encoding = "gb18030"  decimal = ","  thousands = "."  null = ["", "NA"]
# What you do not have:        absent = ["income_m"]              What you do not want read:  ignore = ["REMARK"]
# Plain names, ids, phones, addresses and VINs may stand in no file here. Tokens: fedcredit node tokenise

schema_version = {version}
institution_id = "{name}"
type = "{kind}"
snapshot_date = 2026-06-30        # day on which the tables were taken              快照日
oot_date = 2025-07-01             # first day out of time; one for the whole consortium   时间外起始日(全联盟统一)
currency = "CNY"
data_owner = "risk department"    # a department, not a person                      数据责任部门
legal_basis = "contract"          # contract, consent, legal_duty, public_record or synthetic   合法性基础
token_method = "hmac-sha256"      # how tokens were made; a hash without a key is refused       令牌方法
label_map = "label_map.toml"
"""
_LABELS: Final = {
    InstitutionType.BANK: (("def90", 90, 0, "event"), ("ew30", 30, 0, "event"), ("fpd", 30, 0, "event")),
    InstitutionType.AUTO_FINANCE: (("def90", 90, 0, "event"), ("ew30", 30, 0, "event"), ("fpd", 30, 0, "event")),
    InstitutionType.LESSOR: (("def90", 90, 0, "event"), ("ew30", 30, 0, "event"), ("price", 0, 0, "event")),
    InstitutionType.GUARANTEE_FUND: (("comp", 90, 30, "month_end"),),
    InstitutionType.INSURER: (("claim", 0, 0, "event"), ("cgi", 85, 15, "month_end")),
}
_LABEL_HEAD: Final = """\
# label_map.toml: what each kind of label of this institution means to the others.            标签映射
# dpd_equiv  days past due that it corresponds to; a fund compensates 30 to 90 days late, so comp is 60 to 120.
# lag_days   days until the institution knows it.      known_at  counted from the event, or from its "month_end".
# These are starting values. Replace them by what your own contracts and reports say.

schema_version = 1
"""
_NODE: Final = """\
# node.example.toml: what node.toml will look like. It is not read. Every figure below is your decision;
# fedcredit has no default for any of them. When mapping.toml passes, make the node with its keys:
#
#   fedcredit node init {folder} --name {name} --type {kind} --data {folder}/mapping.toml --contract {contract} \\
#     --modality terms --epsilon ... --delta ... --holdout-epsilon ...

schema_version = 1
institution = "{name}"
kind = "{kind}"

[data]                       # what training reads                                           训练读取的数据
path = "mapping.toml"        # features are made from the checked tables                    特征由通过检查的表生成
contract = "{contract}"   # a shipped name, or the consortium's own YAML
modalities = ["terms"]       # check-data names those that your tables hold                   check-data 会列出可用模态
accept = []                  # codes of warnings that a person accepted                      已人工接受的警告代码

# [budget]                   # the most that a borrower ever loses, over all runs            隐私预算上限
# epsilon = ...              # for training; 3 is common
# delta = ...                # one for the life of the data set; at most 1 / (10 x borrowers)
# holdout_epsilon = ...      # for evaluation
"""


def example_mapping(kind: InstitutionType, *, name: str, folder: str, version: int) -> str:
    """Return a mapping for a type of institution: tables that it holds in full active, those in part commented."""
    rules = canonical(version)
    parts = [_HEAD.format(name=name, kind=kind, folder=folder, version=version)]
    for table in rules.tables:
        held = rules.modality(table.modality).held_by[kind]
        if held != "none":
            parts.append(_table(rules, table, kind, active=held == "full"))
    return "\n".join(parts)


def example_label_map(kind: InstitutionType) -> str:
    """Return a label map with the kinds of labels that a type of institution owns."""
    parts = [_LABEL_HEAD]
    for label, days, lag, known in _LABELS[kind]:
        parts.append(f'[labels.{label}]\ndpd_equiv = {days}\nlag_days = {lag}\nknown_at = "{known}"\n')
    return "\n".join(parts)


def example_node(kind: InstitutionType, *, name: str, folder: str) -> str:
    """Return a node configuration to read, with its decisions left open."""
    return _NODE.format(kind=kind, name=name, folder=folder, contract=VEHICLE_LOANS)


def node_command(data: Path, name: str, kind: InstitutionType, *, contract: str, modalities: Iterable[str]) -> str:
    """Return the command that makes a node on checked tables; three figures are for a person to decide."""
    held = " ".join(f"--modality {modality}" for modality in modalities)
    who = f"--name {name} --type {kind}"
    decided = "--epsilon E --delta D --holdout-epsilon E"
    return f"fedcredit node init NODE {who} --data {data} --contract {contract} {held} {decided}"


def check_command(accepted: Iterable[str]) -> str:
    """Return the command that checks that node's tables; the new node knows nothing of what was accepted before."""
    return " ".join(["fedcredit node check-data NODE", *(f"--accept {code}" for code in sorted(accepted))])


def _table(rules: CanonicalSet, table: CanonicalTable, kind: InstitutionType, *, active: bool) -> str:
    folder = "." not in table.file
    file = f"exports/{table.file}" if folder else f"exports/{table.name}.csv"
    lines = [f"# {table.en}    {table.zh}", f"[tables.{table.name}]", f'file = "{file}"']
    lines += ["", f"[tables.{table.name}.columns]"]
    lines += [_line(rules, rule, kind) for rule in table.accepted]
    if not active:
        lines = [line if not line or line.startswith("#") else f"# {line}" for line in lines]
    return "\n".join(lines) + "\n"


def _line(rules: CanonicalSet, rule: ColumnRule, kind: InstitutionType) -> str:
    held = rules.modality(rule.modality).held_by[kind]
    asked = rule.minimum and (held == "full" or rule.missing == "required")
    unit = f" [{rule.unit}]" if rule.unit else ""
    text = f'{rule.name} = "{rule.name}"'
    return f"{'' if asked else '# '}{text:<44} # {rule.en}{unit}    {rule.zh}"
