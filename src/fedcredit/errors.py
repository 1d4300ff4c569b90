"""Every error that fedcredit raises on purpose.

    FedcreditError
    ├── SetupError      FC-1xxx  configuration, files, processes, network   exit 2 (6 for a timeout)
    ├── RoundError      FC-2xxx  rounds, quorum, policy                     exit 6 / 7 / 1 (2 for an unknown run)
    ├── SecurityError   FC-3xxx  messages, keys, signatures                 exit 5
    ├── PrivacyError    FC-4xxx  plan, noise, budget, ledger                exit 4 (70 for a bug)
    ├── DataError       FC-5xxx  tables, columns, labels                    exit 3
    ├── ModelError      FC-6xxx  layout, training, figures                  exit 8 / 1
    ├── StorageError    FC-7xxx  disks, journals, checkpoints               exit 1
    └── InternalError   FC-9001  a bug in fedcredit                         exit 70

A code is permanent: it is never reused and its meaning never changes. An error carries *fields*; the English
and the Chinese sentence are templates over the same fields, so a log, a terminal and a report say the same.
A field is a name, a place or a number that the operator may see; a cell value or a key is never a field.
"""

from __future__ import annotations

import os
import string
from typing import ClassVar, Final, Literal

Language = Literal["en", "zh"]

REGISTRY: Final[dict[str, type[FedcreditError]]] = {}
RETIRED: Final = frozenset({"FC-4008"})
"""Codes that meant something once: FC-4008, shared noise that nothing hid; plans cannot say that any more."""


def operator_language() -> Language:
    """Return the language of operator messages: ``FEDCREDIT_LANG`` if set to ``en`` or ``zh``, else English."""
    return "zh" if os.environ.get("FEDCREDIT_LANG", "").lower().startswith("zh") else "en"


def phrase(*, en: str, zh: str) -> str:
    """Return whichever of two phrases the operator reads: for a field of an error that is words itself."""
    return zh if operator_language() == "zh" else en


def _placeholders(template: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name)


class FedcreditError(Exception):
    """Base of every deliberate error: a permanent code, an exit code, one sentence and a way out."""

    code: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1
    en: ClassVar[str] = ""
    zh: ClassVar[str] = ""
    fix_en: ClassVar[str] = ""
    fix_zh: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Register a concrete error and refuse a second owner of its code."""
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__:
            return
        if cls.code in RETIRED:
            raise TypeError(f"{cls.code} is retired")
        if cls.code in REGISTRY:
            raise TypeError(f"{cls.code} belongs to {REGISTRY[cls.code].__name__} already")
        REGISTRY[cls.code] = cls

    def __init__(self, **fields: object) -> None:
        expected = self.field_names()
        if set(fields) != expected:
            raise TypeError(f"{type(self).__name__} takes the fields {sorted(expected)}, got {sorted(fields)}")
        self.fields = fields
        super().__init__(self.describe("en"))

    @classmethod
    def field_names(cls) -> frozenset[str]:
        """Return the names of the fields that this error's sentences mention."""
        return _placeholders(cls.en) | _placeholders(cls.fix_en)

    def describe(self, language: Language | None = None) -> str:
        """Return the sentence about what happened, without code and fix."""
        template = self.zh if (language or operator_language()) == "zh" else self.en
        return template.format(**self.fields)

    def fix(self, language: Language | None = None) -> str:
        """Return what the operator can do about it."""
        template = self.fix_zh if (language or operator_language()) == "zh" else self.fix_en
        return template.format(**self.fields)


# --- FC-1xxx: set-up -------------------------------------------------------------------------------------


class SetupError(FedcreditError):
    """Something outside the protocol is not as it must be before work can begin."""

    exit_code = 2


class ConfigFileMissingError(SetupError):
    """A configuration file that a command needs does not exist."""

    code = "FC-1001"
    en = "There is no {what} at {path}."
    zh = "{path} 处没有{what}。"
    fix_en = "Give the right path, or make one: {command}"
    fix_zh = "请给出正确的路径,或新建一个:{command}"


class ConfigSyntaxError(SetupError):
    """A configuration file is not TOML."""

    code = "FC-1002"
    en = "{path} is not valid TOML: {detail}."
    zh = "{path} 不是有效的 TOML:{detail}。"
    fix_en = "Correct the file at the place named above."
    fix_zh = "请修改上面指出的位置。"


class UnknownKeyError(SetupError):
    """A configuration has a key that fedcredit does not know; a typo must not change a decision silently."""

    code = "FC-1003"
    en = '{path} has an unknown key "{key}".'
    zh = '{path} 中有未知的键 "{key}"。'
    fix_en = "{hint}"
    fix_zh = "{hint}"


class ConfigValueError(SetupError):
    """A configuration value has the wrong type or lies outside its range."""

    code = "FC-1004"
    en = "{path}: {key} {problem}."
    zh = "{path}:{key} {problem}。"
    fix_en = "Correct {key} in {path}."
    fix_zh = "请修改 {path} 中的 {key}。"


class MissingKeyError(SetupError):
    """A configuration lacks a key; decisions have no default."""

    code = "FC-1005"
    en = "{path} lacks the key {key}, and there is no default for it."
    zh = "{path} 缺少键 {key},该键没有默认值。"
    fix_en = "Add {key} to {path}."
    fix_zh = "请在 {path} 中加入 {key}。"


class UsageError(SetupError):
    """Options of a command contradict each other or name something that does not exist."""

    code = "FC-1006"
    en = "{problem}."
    zh = "命令用法有误:{problem}。"
    fix_en = "{hint}"
    fix_zh = "{hint}"


class ContractSyntaxError(SetupError):
    """A data contract is not YAML, or repeats a key."""

    code = "FC-1007"
    en = "{path} is not a valid YAML contract: {detail}."
    zh = "{path} 不是有效的 YAML 契约:{detail}。"
    fix_en = "Correct the file at the place named above."
    fix_zh = "请修改上面指出的位置。"


class ExtraMissingError(SetupError):
    """A feature needs packages that are installed only when asked for."""

    code = "FC-1008"
    en = "What {what} need is not installed."
    zh = "{what} 所需的软件包未安装。"
    fix_en = "Install it: pip install 'fedcredit[{extra}]'"
    fix_zh = "请安装:pip install 'fedcredit[{extra}]'"


class DaemonUnreachableError(SetupError):
    """No daemon answers on a local socket."""

    code = "FC-1201"
    exit_code = 6
    en = "No fedcredit daemon answers at {socket}."
    zh = "{socket} 上没有 fedcredit 守护进程应答。"
    fix_en = "Start it: {command}"
    fix_zh = "请启动:{command}"


class ProcessStartError(SetupError):
    """A child process (relay, SuperNode, SuperExec, daemon) ended or stayed silent before it was ready."""

    code = "FC-1202"
    exit_code = 6
    en = "{process} was not ready after {seconds:.0f} s."
    zh = "{process} 在 {seconds:.0f} 秒内未就绪。"
    fix_en = "Its log says why: {log}"
    fix_zh = "原因见日志:{log}"


class RelayCommandError(SetupError):
    """A command against the relay failed."""

    code = "FC-1203"
    en = "The relay refused or failed: {action}."
    zh = "中继拒绝或失败:{action}。"
    fix_en = "The log says why: {log}"
    fix_zh = "原因见日志:{log}"


class StateDirInUseError(SetupError):
    """Another process holds the lock of a state directory."""

    code = "FC-1301"
    en = "Another fedcredit process works in {path}."
    zh = "另一个 fedcredit 进程正在使用 {path}。"
    fix_en = "Stop that process, or use another state directory."
    fix_zh = "请停止该进程,或使用其他状态目录。"


class SocketPathError(SetupError):
    """A Unix-domain socket path is too long for the operating system."""

    code = "FC-1302"
    en = "The socket path {path} has {length} bytes; the operating system allows {limit}."
    zh = "套接字路径 {path} 有 {length} 字节,系统上限为 {limit}。"
    fix_en = "Choose a shorter state directory."
    fix_zh = "请选择更短的状态目录。"


# --- FC-2xxx: rounds -------------------------------------------------------------------------------------


class RoundError(FedcreditError):
    """A round or a run cannot go on."""

    exit_code = 6


class RunNotFoundError(RoundError):
    """A run id or a run folder is unknown."""

    code = "FC-2101"
    exit_code = 2
    en = "There is no run at {place}."
    zh = "{place} 处没有运行记录。"
    fix_en = "List the runs of this coordinator: fedcredit coord run status COORDINATOR"
    fix_zh = "列出协调方的运行:fedcredit coord run status COORDINATOR"


class RunBusyError(RoundError):
    """The coordinator works on another run already."""

    code = "FC-2102"
    exit_code = 1
    en = "The coordinator is busy with run {run}."
    zh = "协调方正在执行运行 {run}。"
    fix_en = "Watch it: fedcredit coord run watch COORDINATOR"
    fix_zh = "查看进度:fedcredit coord run watch COORDINATOR"


class RunMismatchError(RoundError):
    """A run folder belongs to another plan than the one given."""

    code = "FC-2103"
    exit_code = 1
    en = "The folder {path} holds a run of another plan."
    zh = "文件夹 {path} 中是另一个计划的运行。"
    fix_en = "Use another folder, or resume with the plan stored there."
    fix_zh = "请使用其他文件夹,或用其中保存的计划继续。"


class QuorumError(RoundError):
    """Too few institutions answered before the deadline; the model is unchanged."""

    code = "FC-2201"
    en = (
        "Round {round} stopped: {received} of {needed} needed institutions answered within {seconds:.0f} s; "
        "missing: {missing}. The model is unchanged; what they reserved stays charged."
    )
    zh = (
        "第 {round} 轮停止:{seconds:.0f} 秒内仅 {received} 家机构应答,需要 {needed} 家;缺少:{missing}。"
        "模型未变;已预留的隐私预算仍计入。"
    )
    fix_en = (
        "Ask the missing institutions for the end of their node log; then: fedcredit coord run resume COORDINATOR RUN"
    )
    fix_zh = "请缺席机构查看其节点日志的最后几行;然后执行:fedcredit coord run resume COORDINATOR RUN"


class RoundRefusedError(RoundError):
    """Institutions refused a round, so the quorum cannot be met."""

    code = "FC-2202"
    exit_code = 7
    en = "Round {round} stopped: refused by {refusals}. The model is unchanged."
    zh = "第 {round} 轮停止:被 {refusals} 拒绝。模型未变。"
    fix_en = "Each code is explained in the README; ask the institution named."
    fix_zh = "各错误码见 README;请联系所列机构。"


class SumNotOpenedError(RoundError):
    """Too few members agreed to the cohort, or revealed their shares, before the deadline."""

    code = "FC-2203"
    en = "Round {round} was stopped: {received} of {needed} members {step} within {seconds:.0f} s. Missing: {missing}."
    zh = "第 {round} 轮已停止:{seconds:.0f} 秒内仅有 {received}/{needed} 个成员完成“{step}”。缺少:{missing}。"
    fix_en = (
        "Nobody's update was read and the model is unchanged; what was charged stays charged. Resume the run later."
    )
    fix_zh = "未读取任何成员的更新,模型未改变;已消耗的预算不退还。可稍后恢复运行。"


class PlanNotApprovedError(RoundError):
    """An institution was asked to take part in a run whose plan its operator has not approved."""

    code = "FC-2301"
    exit_code = 7
    en = "The plan {digest} is not among this institution's approvals."
    zh = "计划 {digest} 未获本机构批准。"
    fix_en = "Read it and approve it: fedcredit node approve NODE plan.toml"
    fix_zh = "请阅读并批准:fedcredit node approve NODE plan.toml"


class PolicyError(RoundError):
    """A request breaks the institution's own policy."""

    code = "FC-2302"
    exit_code = 7
    en = "This institution's policy refuses the request: {reason}."
    zh = "本机构的政策拒绝该请求:{reason}。"
    fix_en = "The institution decides: if it agrees, the coordinator sends a plan that fits, or node.toml is changed."
    fix_zh = "由本机构决定:若同意,请协调方提供合适的计划,或修改 node.toml。"


class DeadlinePassedError(RoundError):
    """A request arrived after its own deadline."""

    code = "FC-2303"
    en = "The request for round {round} arrived after its deadline."
    zh = "第 {round} 轮的请求在截止时间之后到达。"
    fix_en = "Check this machine's clock, and ask the coordinator for a longer deadline."
    fix_zh = "请检查本机时钟,并请协调方延长截止时间。"


class NotAMemberError(RoundError):
    """The roster of a request does not name this institution."""

    code = "FC-2304"
    exit_code = 7
    en = "The roster of the request does not list {institution} with this institution's keys."
    zh = "请求中的成员名册未以本机构的密钥列出 {institution}。"
    fix_en = "Ask the coordinator to approve the join request again: fedcredit coord member approve COORDINATOR REQUEST"
    fix_zh = "请协调方重新批准加入申请:fedcredit coord member approve COORDINATOR REQUEST"


class LargeEpsilonError(PolicyError):
    """A plan's epsilon is above what a coordinator offers without saying so aloud."""

    code = "FC-2305"
    en = (
        "The plan asks for epsilon {epsilon:g}; above {limit:g} it says little about what a borrower is protected from."
    )
    zh = "计划要求 epsilon {epsilon:g};超过 {limit:g} 时,对借款人的保护已很有限。"
    fix_en = "Choose a smaller epsilon. Only for experiments on public data: --allow-large-epsilon"
    fix_zh = "请选择更小的 epsilon。仅限公开数据实验:--allow-large-epsilon"


class CourierError(RoundError):
    """A courier could not pass an envelope on; the sentence is constant because it crosses the relay."""

    code = "FC-2402"
    en = "The courier could not pass the envelope on."
    zh = "信使未能转交信封。"
    fix_en = "Look at the daemon on the courier's own host: fedcredit node status, or fedcredit coord run status."
    fix_zh = "请在信使所在主机检查守护进程:fedcredit node status 或 fedcredit coord run status。"


class UpdateOutOfRangeError(RoundError):
    """A released sum is larger than its contributors can have made it by following the protocol."""

    code = "FC-2403"
    exit_code = 7
    en = "The sum of round {round} lies outside what honest members can send: {numbers}. The model is unchanged."
    zh = "第 {round} 轮的总和超出诚实成员所能发送的范围:{numbers}。模型未变。"
    fix_en = (
        "At least one member runs another program or is broken; the sum does not say which. "
        "Let the members open their noised numbers of this round to an auditor (SECURITY.md), then repeat without it."
    )
    fix_zh = (
        "至少有一个成员运行了其他程序或发生故障;仅凭总和无法判断是谁。"
        "请各成员向审计方公开本轮加噪数值(见 SECURITY.md),排除该成员后重试。"
    )


# --- FC-3xxx: security -----------------------------------------------------------------------------------


class SecurityError(FedcreditError):
    """A message, key or signature is not what it must be. Nothing was counted."""

    exit_code = 5


class MalformedMessageError(SecurityError):
    """Bytes do not decode to exactly one message of a known type and version."""

    code = "FC-3101"
    en = "Not a well-formed {what}: {problem}."
    zh = "{what} 格式不正确:{problem}。"
    fix_en = "Nothing was counted. If both sides run the same version, the message was changed on the way."
    fix_zh = "未计入任何内容。若双方版本相同,则消息在途中被改动。"


class CannotOpenError(SecurityError):
    """A sealed message does not open with the pinned key and the expected context."""

    code = "FC-3102"
    en = "A sealed message from {sender} does not open with the registered key in this context."
    zh = "来自 {sender} 的密封消息无法用登记的密钥在此上下文中打开。"
    fix_en = "Nothing was counted. Compare fingerprints: fedcredit node keys check NODE"
    fix_zh = "未计入任何内容。请核对指纹:fedcredit node keys check NODE"


class BadSignatureError(SecurityError):
    """A signature does not verify under the registered key."""

    code = "FC-3103"
    en = "The signature of {signer} on the {what} does not verify."
    zh = "{signer} 对{what}的签名验证失败。"
    fix_en = "Nothing was counted. Compare fingerprints with {signer} by voice."
    fix_zh = "未计入任何内容。请与 {signer} 通过电话核对指纹。"


class UnknownSenderError(SecurityError):
    """A message names a sender who is not in the cohort."""

    code = "FC-3104"
    en = "{sender} is not in the cohort of this round."
    zh = "{sender} 不在本轮的参与名单中。"
    fix_en = "Nothing was counted."
    fix_zh = "未计入任何内容。"


class ReplayError(SecurityError):
    """A message belongs to a round or attempt that is over, or repeats one with different content."""

    code = "FC-3105"
    en = "A message for round {round}, attempt {attempt} is refused: {reason}."
    zh = "第 {round} 轮第 {attempt} 次尝试的消息被拒绝:{reason}。"
    fix_en = "Nothing was counted, nothing was charged."
    fix_zh = "未计入任何内容,也未消耗预算。"


class WrongContextError(SecurityError):
    """A message is genuine but belongs somewhere else (another run, round, recipient or manifest)."""

    code = "FC-3106"
    en = "The {what} does not belong here: {field} differs."
    zh = "{what} 不属于此处:{field} 不一致。"
    fix_en = "Nothing was counted."
    fix_zh = "未计入任何内容。"


class MessageTooLargeError(SecurityError):
    """A message exceeds the size limit of its type."""

    code = "FC-3108"
    en = "A message of {size} bytes exceeds the limit of {limit}."
    zh = "{size} 字节的消息超过上限 {limit}。"
    fix_en = "Nothing was read. Check that the sender follows the same plan."
    fix_zh = "未读取。请确认发送方使用同一计划。"


class ReconstructionError(SecurityError):
    """The shares of a secret do not give back the secret that its owner committed to."""

    code = "FC-3112"
    en = "{what} cannot be rebuilt from its shares: {problem}."
    zh = "无法用份额恢复 {what}:{problem}。"
    fix_en = "Nothing was unmasked. Keep the signed messages of this attempt as evidence, and start another attempt."
    fix_zh = "未去除任何掩码。请保留本次尝试的已签名消息作为证据,然后开始新的尝试。"


class EpochError(SecurityError):
    """A round needs keys of an epoch that this member does not hold, or that have been used."""

    code = "FC-3113"
    en = "This institution cannot take part in the epoch of this round: {reason}."
    zh = "本机构无法参加本轮所属的密钥周期:{reason}。"
    fix_en = "Nothing left. The coordinator sets up a new epoch by itself with its next attempt."
    fix_zh = "未发出任何内容。协调方会在下一次尝试时自动建立新的密钥周期。"


class AgreementError(SecurityError):
    """A coordinator asks for shares before enough members have agreed to the cohort."""

    code = "FC-3114"
    en = "Only {signed} members of the cohort have agreed to this selection; {needed} must, before a share leaves."
    zh = "仅有 {signed} 个成员同意该参与名单;须有 {needed} 个同意后才会发出份额。"
    fix_en = "No share left. If the coordinator asks again without them, report it to the other members."
    fix_zh = "未发出任何份额。若协调方在缺少同意的情况下再次索取,请告知其他成员。"


class SmallCohortError(SecurityError):
    """A sum, or the difference of two sums, would hide too few members."""

    code = "FC-3115"
    en = "A sum over {members} members would be opened, or leave this one out; at least {needed} must hide each other."
    zh = "将打开仅含 {members} 个成员的总和,或将本机构排除在外;至少须有 {needed} 个成员互相掩护。"
    fix_en = "No share left. Start another attempt when more members are reachable."
    fix_zh = "未发出任何份额。待更多成员可达后再重新尝试。"


class LineageError(SecurityError):
    """A round's weights are not the model that the log released last."""

    code = "FC-3116"
    en = "The weights of round {round} are not the last released model: {problem}."
    zh = "第 {round} 轮的权重不是最近发布的模型:{problem}。"
    fix_en = "Nothing was computed or charged. Ask the coordinator for the log, and keep the request as evidence."
    fix_zh = "未计算也未消耗预算。请向协调方索取日志,并保留该请求作为证据。"


class KeyFileError(SecurityError):
    """A key file is missing, malformed or readable by others."""

    code = "FC-3201"
    en = "The key file {path} {problem}."
    zh = "密钥文件 {path} {problem}。"
    fix_en = "Restore it from backup with mode 0600, or make new keys and enrol again."
    fix_zh = "请从备份恢复并设权限 0600,或生成新密钥并重新登记。"


class FingerprintMismatchError(SecurityError):
    """A fingerprint given by a person does not match the key in a file."""

    code = "FC-3202"
    en = "The fingerprint given is not that of {whose}: the file says {actual}."
    zh = "给出的指纹与 {whose} 的不符:文件中为 {actual}。"
    fix_en = "Compare it again by voice. If it still differs, the file was exchanged: do not use it."
    fix_zh = "请再次电话核对。若仍不一致,文件已被调换,切勿使用。"


class EnrolmentFileError(SecurityError):
    """An invitation or a join request is not usable."""

    code = "FC-3203"
    en = "{path} is not a usable {what}: {problem}."
    zh = "{path} 不是可用的{what}:{problem}。"
    fix_en = "Ask for a new one."
    fix_zh = "请重新获取。"


class RosterMismatchError(SecurityError):
    """A roster does not have exactly the members, and their keys, that the approved plan names."""

    code = "FC-3204"
    en = "The keys of {institution} in the roster are not those that the plan names, or only one of the two names it."
    zh = "名册中 {institution} 的密钥与计划所列不符,或仅其中一方列有该机构。"
    fix_en = (
        "Nothing left. Compare fingerprints with {institution} by voice; after a change of keys a new plan is needed."
    )
    fix_zh = "未发出任何内容。请与 {institution} 电话核对指纹;更换密钥后需要新的计划。"


class AuditError(SecurityError):
    """An audit log or a journal does not verify."""

    code = "FC-3301"
    en = "The audit log {path} does not verify: entry {index} {problem}."
    zh = "审计日志 {path} 验证失败:第 {index} 条{problem}。"
    fix_en = "Keep the folder as evidence and compare with the heads other parties hold."
    fix_zh = "请保留该文件夹作为证据,并与其他方持有的日志头核对。"


class LogForkError(SecurityError):
    """A log head does not continue the head that this institution cosigned: two histories exist."""

    code = "FC-3302"
    en = (
        "The log of {size} entries with root {root} does not continue the log of {known_size} entries "
        "with root {known_root} that this institution cosigned."
    )
    zh = "{size} 条、根为 {root} 的日志,并非本机构已联署的 {known_size} 条、根为 {known_root} 的日志的延续。"
    fix_en = "Nothing was cosigned. Keep both heads as evidence and compare them with the other institutions."
    fix_zh = "未联署。请保留两个日志头作为证据,并与其他机构核对。"


class LogRolledBackError(SecurityError):
    """A log shows fewer entries than this institution has cosigned: its end was cut off."""

    code = "FC-3303"
    en = "The log shows {size} entries, but this institution cosigned {known_size}."
    zh = "日志仅有 {size} 条,而本机构已联署 {known_size} 条。"
    fix_en = "Nothing was cosigned. The operator of the log must bring the missing entries back, unchanged."
    fix_zh = "未联署。日志运营方必须原样恢复缺失的条目。"


class LogProofError(SecurityError):
    """A proof about a log does not verify, or a proof or root is asked for entries that do not exist."""

    code = "FC-3304"
    en = "The {what} of the log is refused: {problem}."
    zh = "日志的 {what} 被拒绝:{problem}。"
    fix_en = "Nothing was counted. Ask the operator of the log for it again, and keep what you were given."
    fix_zh = "未计入任何内容。请向日志运营方重新索取,并保留已收到的内容。"


class CheckpointNoteError(SecurityError):
    """A text is not a well-formed signed checkpoint of a log."""

    code = "FC-3305"
    en = "Not a usable log checkpoint: {problem}."
    zh = "不是可用的日志检查点:{problem}。"
    fix_en = "Nothing was counted. If both sides run the same version, the checkpoint was changed on the way."
    fix_zh = "未计入任何内容。若双方版本相同,则检查点在途中被改动。"


class NotFinalError(SecurityError):
    """Too few institutions have cosigned a checkpoint for it to be final."""

    code = "FC-3306"
    en = (
        "The log checkpoint of {size} entries is not final: {valid} of {needed} needed institutions cosigned it; "
        "missing: {missing}."
    )
    zh = "{size} 条的日志检查点尚未最终确定:需要 {needed} 家机构联署,现有 {valid} 家;缺少:{missing}。"
    fix_en = "Ask the missing institutions why they did not cosign: a fork or a rollback is in their node log."
    fix_zh = "请缺席机构说明未联署的原因:若有分叉或回滚,其节点日志中有记录。"


class AnchorError(SecurityError):
    """A time stamp of a log is not one that can be relied on."""

    code = "FC-3307"
    en = "The time stamp {path} does not hold: {problem}."
    zh = "时间戳 {path} 不成立:{problem}。"
    fix_en = (
        "Nothing was counted. Keep the file, and get a new stamp of the log: fedcredit audit anchor RUN --query FILE"
    )
    fix_zh = "未计入任何内容。请保留该文件,并为日志重新获取时间戳:fedcredit audit anchor RUN --query FILE"


class DefenceBrokenError(SecurityError):
    """A demonstrated attack or fault was neither refused nor survived."""

    code = "FC-3401"
    en = "The defence against {attack} did not hold: {failed} of {checks} checks failed ({names})."
    zh = "对 {attack} 的防御未成立:{checks} 项检查中有 {failed} 项未通过({names})。"
    fix_en = (
        "Unless you switched the protection off yourself, do not use this installation; "
        "keep what happened: fedcredit demo --break {attack} --out FOLDER"
    )
    fix_zh = "除非是您自己关闭了保护,否则请勿使用此安装;保留现场:fedcredit demo --break {attack} --out FOLDER"


# --- FC-4xxx: privacy ------------------------------------------------------------------------------------


class PrivacyError(FedcreditError):
    """A privacy claim cannot be kept, so nothing is released."""

    exit_code = 4


class PrivacyPlanError(PrivacyError):
    """A privacy plan contradicts itself or claims what its mechanism cannot give."""

    code = "FC-4001"
    en = "The privacy plan cannot hold: {problem}."
    zh = "隐私计划不成立:{problem}。"
    fix_en = "Change [privacy] in the plan."
    fix_zh = "请修改计划中的 [privacy]。"


class UnknownMechanismError(PrivacyError):
    """A release uses a mechanism that the accountant does not know."""

    code = "FC-4002"
    en = 'The accountant does not know the mechanism "{mechanism}".'
    zh = '隐私核算不认识机制 "{mechanism}"。'
    fix_en = "Use one of: {known}"
    fix_zh = "请使用:{known}"


class PrivacyOffRefusedError(PrivacyError):
    """A run without differential privacy was asked of an institution that has not agreed to it."""

    code = "FC-4003"
    en = "The plan trains without differential privacy, and this institution has not agreed to that."
    zh = "该计划不使用差分隐私训练,而本机构未同意。"
    fix_en = "Only for tests on public data: set allow_no_privacy = true under [policy] in node.toml."
    fix_zh = "仅限公开数据测试:在 node.toml 的 [policy] 中设 allow_no_privacy = true。"


class NoiseRangeError(PrivacyError):
    """A noise scale is outside what the integer sampler supports, or a sum could wrap."""

    code = "FC-4004"
    en = "The noise or the sum does not fit: {problem}."
    zh = "噪声或总和超出范围:{problem}。"
    fix_en = "Choose a coarser grid, a smaller clip or wider lanes (lane_bits) in the plan."
    fix_zh = "请在计划中选择更粗的网格、更小的裁剪或更宽的通道(lane_bits)。"


class FixedNoiseRefusedError(PrivacyError):
    """Repeatable noise, which protects nobody, was asked of an institution that has not agreed to it."""

    code = "FC-4005"
    en = "The plan asks for fixed test noise, which protects nobody, and this institution has not agreed to it."
    zh = "计划要求固定测试噪声(不提供任何保护),而本机构未同意。"
    fix_en = "Only for tests on public data: set allow_fixed_noise = true under [policy] in node.toml."
    fix_zh = "仅限公开数据测试:在 node.toml 的 [policy] 中设 allow_fixed_noise = true。"


class AccountantError(PrivacyError):
    """A plan names an accountant that cannot account for its mechanism, or two accountants disagree."""

    code = "FC-4006"
    en = 'The accountant "{accountant}" does not fit: {problem}.'
    zh = '隐私核算方法 "{accountant}" 不适用:{problem}。'
    fix_en = 'Set accountant = "gdp" for rounded-gaussian full-batch training, and "rdp" for everything else.'
    fix_zh = '全批量 rounded-gaussian 训练用 accountant = "gdp",其他情况用 "rdp"。'


class DeltaTooLargeError(PrivacyError):
    """Delta is above one over the number of borrowers: it would allow to publish one of them."""

    code = "FC-4007"
    en = "Delta {delta:g} is above 1/n = {largest:.2e} of {institution}; such a claim protects nobody in particular."
    zh = "delta {delta:g} 大于 {institution} 的 1/n = {largest:.2e};这样的声明不能保护任何具体的人。"
    fix_en = "Set delta to at most 1/(10 n) of the largest institution: {advised:.1e}"
    fix_zh = "请将 delta 设为不超过最大机构的 1/(10 n):{advised:.1e}"


class BudgetExhaustedError(PrivacyError):
    """A release would exceed the institution's own cap."""

    code = "FC-4101"
    en = (
        "{release} would bring epsilon of {partition} to {would_be:.3f}; this institution's cap is {cap:.3f} "
        "(spent {spent:.3f}). Nothing was computed."
    )
    zh = (
        "{release} 将使 {partition} 的 epsilon 达到 {would_be:.3f};本机构上限为 {cap:.3f}"
        "(已用 {spent:.3f})。未进行任何计算。"
    )
    fix_en = (
        "Stop here; or ask the coordinator for a plan with fewer rounds or a smaller epsilon; "
        "or raise the cap with two approvers: fedcredit node budget amend"
    )
    fix_zh = "请停止;或请协调方减少轮数或降低 epsilon;或由两人批准提高上限:fedcredit node budget amend"


class LedgerCorruptError(PrivacyError):
    """The privacy ledger's chain is broken; spending is unknown, so nothing may be released."""

    code = "FC-4102"
    en = "The privacy ledger {path} is broken at entry {index}: {problem}."
    zh = "隐私账本 {path} 在第 {index} 条处损坏:{problem}。"
    fix_en = "Release nothing. Restore the ledger; an old copy is not enough if releases came after it."
    fix_zh = "不得发布任何内容。请恢复账本;若其后有过发布,旧副本不够。"


class NotReservedError(PrivacyError):
    """Noise was requested for a release that has no reservation."""

    code = "FC-4103"
    exit_code = 70
    en = "The release {release} has no reservation in the ledger."
    zh = "发布 {release} 在账本中没有预留。"
    fix_en = "This is a bug in fedcredit; nothing was released."
    fix_zh = "这是 fedcredit 的缺陷;未发布任何内容。"


class ReleaseConflictError(PrivacyError):
    """A release id was reserved before with different content."""

    code = "FC-4104"
    en = "The release {release} was reserved before with other parameters."
    zh = "发布 {release} 此前以不同参数预留过。"
    fix_en = "The coordinator must ask with a new attempt; each attempt is charged."
    fix_zh = "协调方须以新的尝试请求;每次尝试都会计费。"


class LedgerRolledBackError(PrivacyError):
    """Another party holds a head of this ledger that the ledger does not contain: it is an old copy."""

    code = "FC-4105"
    en = "The privacy ledger {path} lacks the entry {head} that the coordinator has seen: it is an old or another copy."
    zh = "隐私账本 {path} 缺少协调方见过的条目 {head}:这是旧副本或其他副本。"
    fix_en = "Release nothing. Bring back the newest state folder; if it is lost, join again under a new name."
    fix_zh = "不得发布任何内容。请恢复最新的 state 目录;若已丢失,请以新名称重新加入。"


class LedgerOwnerError(PrivacyError):
    """The ledger belongs to another institution."""

    code = "FC-4106"
    en = "The privacy ledger {path} belongs to {owner}, not to {institution}."
    zh = "隐私账本 {path} 属于 {owner},而非 {institution}。"
    fix_en = "Use the state folder of {institution}. A ledger is never copied between institutions."
    fix_zh = "请使用 {institution} 的 state 目录。账本不得在机构之间复制。"


class ClockSetBackError(PrivacyError):
    """The clock lies before the last charge, so the order of the ledger would not be the order of time."""

    code = "FC-4107"
    en = "The clock is {seconds} s behind the last charge in the privacy ledger. Nothing was charged or computed."
    zh = "系统时钟比隐私账本中最后一次计费早 {seconds} 秒。未计费,也未进行任何计算。"
    fix_en = "Set the clock right (time synchronisation), then ask again."
    fix_zh = "请校正时钟(时间同步),然后重试。"


class CapMismatchError(PrivacyError):
    """node.toml names a higher cap than the ledger holds: a cap rises by an amendment only."""

    code = "FC-4108"
    en = "node.toml sets {key} to {wanted:g}, but the privacy ledger holds a cap of {cap:g}."
    zh = "node.toml 将 {key} 设为 {wanted:g},但隐私账本中的上限为 {cap:g}。"
    fix_en = "Set it back, or raise it with two approvers: fedcredit node budget amend"
    fix_zh = "请改回原值,或由两人批准提高:fedcredit node budget amend"


class AmendmentError(PrivacyError):
    """An amendment of a cap lacks what makes it one."""

    code = "FC-4109"
    en = "The budget was not amended: {problem}."
    zh = "预算未修改:{problem}。"
    fix_en = "Name two different persons with --approver, a reason, and a cap not below what is spent."
    fix_zh = "请用 --approver 给出两个不同的人、理由,以及不低于已用量的上限。"


# --- FC-5xxx: data ---------------------------------------------------------------------------------------


class DataError(FedcreditError):
    """A table is not what the contract says. Nothing reached training."""

    exit_code = 3
    acceptable: ClassVar[bool] = False
    """``check-data`` ends well once a person has accepted it by its code; nobody can accept any other."""


class DataFileMissingError(DataError):
    """A data file does not exist or cannot be read."""

    code = "FC-5001"
    en = "There is no readable data file at {path}."
    zh = "{path} 处没有可读的数据文件。"
    fix_en = "{hint}"
    fix_zh = "{hint}"


class ChecksumError(DataError):
    """A data file's SHA-256 is not the expected one."""

    code = "FC-5002"
    en = "{path} is damaged or was changed: its SHA-256 begins {actual}, expected {expected}."
    zh = "{path} 已损坏或被改动:SHA-256 开头为 {actual},应为 {expected}。"
    fix_en = "Fetch it again, or restore it with git checkout."
    fix_zh = "请重新获取,或用 git checkout 恢复。"


class DataFormatError(DataError):
    """A data file cannot be parsed as its format."""

    code = "FC-5003"
    en = "{path} cannot be read as {format}."
    zh = "{path} 无法按 {format} 读取。"
    fix_en = "Export it again as Parquet or as CSV in UTF-8 with a header line."
    fix_zh = "请重新导出为 Parquet,或带表头的 UTF-8 CSV。"


class DataRefusedError(DataError):
    """``check-data`` found errors; the data may not be trained on."""

    code = "FC-5004"
    en = "The check found {errors} errors in {tables}: {codes}. Nothing may be trained on these data."
    zh = "检查在 {tables} 中发现 {errors} 个错误:{codes}。这些数据不得用于训练。"
    fix_en = "{command} names each place; mend them and run it again."
    fix_zh = "{command} 会指出每处位置;请修正后再次运行。"


class UnacceptedWarningError(DataError):
    """``check-data`` found warnings that nobody has accepted yet."""

    code = "FC-5005"
    en = "The check found {warnings} warnings that nobody has accepted: {codes}."
    zh = "检查发现 {warnings} 个尚未接受的警告:{codes}。"
    fix_en = "Mend them, or accept each by its code: {command}"
    fix_zh = "请修正,或逐个按代码接受:{command}"


class RowCountError(DataError):
    """A table has another number of rows than its manifest says."""

    code = "FC-5006"
    en = "{path} has {actual} rows, the manifest says {expected}."
    zh = "{path} 有 {actual} 行,清单写明 {expected} 行。"
    fix_en = "Copy the file again; if the new one is right, write the manifest anew with the export."
    fix_zh = "请重新复制文件;若新文件正确,请随导出重写清单。"


class SchemaVersionError(DataError):
    """The schema version asked for is not spoken here, not stated by a member, or not that of the tables."""

    code = "FC-5007"
    en = "The data schema is to be {asked}; spoken here: {spoken}."
    zh = "数据结构版本要求为 {asked};本机支持:{spoken}。"
    fix_en = (
        "Update fedcredit where its version is too old; a member then sends a new join request, which states what it "
        "speaks. Or export the tables in the version of the contract, or take a contract that all speak."
    )
    fix_zh = (
        "请在版本过旧处升级 fedcredit;成员随后重新提交加入申请,以声明其支持的版本。"
        "或按契约的版本导出数据表,或采用各方都支持的契约。"
    )


class SourceUnreadableError(DataError):
    """A database cannot be read."""

    code = "FC-5008"
    en = "The database of table {table} cannot be read: {problem}."
    zh = "表 {table} 的数据库无法读取:{problem}。"
    fix_en = "Check url, query and the rights of the user under [tables.{table}]; it needs no more than SELECT."
    fix_zh = "请检查 [tables.{table}] 下的 url、query 与用户权限;只需 SELECT 权限。"


class MissingTableError(DataError):
    """A table that this type of institution holds in full is absent."""

    code = "FC-5009"
    en = "There is no table {table}, which an institution of type {kind} holds."
    zh = "缺少表 {table},类型为 {kind} 的机构应当拥有该表。"
    fix_en = "Add [tables.{table}] to the mapping, or the file to the manifest."
    fix_zh = "请在映射中加入 [tables.{table}],或在清单中加入该文件。"


class MissingColumnError(DataError):
    """A table lacks a column that the contract requires."""

    code = "FC-5011"
    en = 'The table {path} lacks the column "{column}".'
    zh = '表 {path} 缺少列 "{column}"。'
    fix_en = "{hint}"
    fix_zh = "{hint}"


class WrongColumnTypeError(DataError):
    """A column holds another type than the contract says."""

    code = "FC-5012"
    en = 'Column "{column}" of {path} holds {actual}, the contract says {expected} (first at row {row}).'
    zh = '{path} 的列 "{column}" 是 {actual},契约要求 {expected}(首见于第 {row} 行)。'
    fix_en = "Export the column as {expected}."
    fix_zh = "请将该列导出为 {expected}。"


class ValueRangeError(DataError):
    """A column holds values outside the contract's range or category list."""

    code = "FC-5013"
    en = 'Column "{column}" of {path}: {count} rows lie outside {allowed} (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 行超出 {allowed}(首见于第 {row} 行)。'
    fix_en = "Correct the rows, or the unit or coding of the column."
    fix_zh = "请修正这些行,或该列的单位与编码。"


class MissingValueError(DataError):
    """A required column has empty cells."""

    code = "FC-5014"
    en = 'Column "{column}" of {path} is empty in {count} rows (first at row {row}).'
    zh = '{path} 的列 "{column}" 有 {count} 行为空(首见于第 {row} 行)。'
    fix_en = "Fill them, or leave those rows out."
    fix_zh = "请补全,或去掉这些行。"


class NoRowsError(DataError):
    """An institution has no usable row."""

    code = "FC-5015"
    en = "{place} has no rows to train on."
    zh = "{place} 没有可用于训练的行。"
    fix_en = "Check the file and its filters; an institution without rows cannot take part."
    fix_zh = "请检查文件与筛选条件;没有数据的机构无法参与。"


class OneClassError(DataError):
    """All labels are the same, so nothing can be learnt or measured."""

    code = "FC-5016"
    en = "All {rows} labels of {place} are the same class."
    zh = "{place} 的 {rows} 个标签全部属于同一类。"
    fix_en = "Check the label definition and its window; both outcomes are needed."
    fix_zh = "请检查标签定义与观察窗口;两类结果都必须有。"


class MissingEntityError(DataError):
    """Rows have no entity (borrower), so they cannot be protected."""

    code = "FC-5017"
    en = 'Column "{column}" of {path}: {count} rows name no borrower (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 行没有借款人标识(首见于第 {row} 行)。'
    fix_en = "Give every row the token of its borrower."
    fix_zh = "请为每一行提供借款人标识。"


class UnitError(DataError):
    """A column's median lies far outside what its unit can mean."""

    code = "FC-5018"
    en = (
        'Column "{column}" of {path} looks like {likely}: its median is {median}, expected {low} to '
        "{high} {unit} ({count} rows)."
    )
    zh = '{path} 的列 "{column}" 看起来单位是 {likely}:中位数 {median},应在 {low} 至 {high} {unit}({count} 行)。'
    fix_en = 'Write in the mapping under [tables.{table}.columns.{name}]: unit = "{likely}"'
    fix_zh = '请在映射的 [tables.{table}.columns.{name}] 下写入:unit = "{likely}"'


class DeniedColumnError(DataError):
    """A column is on the deny-list: personal data that no risk model here needs."""

    code = "FC-5019"
    en = 'Column "{column}" of {path} is on the deny-list: {what}.'
    zh = '{path} 的列 "{column}" 在禁用清单上:{what}。'
    fix_en = "Leave the column out of the export; nothing but a token of an identifier may enter."
    fix_zh = "请在导出时去掉该列;标识信息只能以令牌形式进入。"


class PersonalValueError(DataError):
    """Cells look like plain personal data."""

    code = "FC-5020"
    en = 'Column "{column}" of {path}: {count} cells look like {what} (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个单元格疑似{what}(首见于第 {row} 行)。'
    fix_en = "Leave the column out, or replace it by tokens: fedcredit node tokenise"
    fix_zh = "请去掉该列,或用令牌替换:fedcredit node tokenise"


class ClippedValueError(DataError):
    """A few cells lie outside the range; they would be clipped to it."""

    code = "FC-5021"
    acceptable = True
    en = (
        'Column "{column}" of {path}: {count} rows lie outside {allowed} (first at row {row}). They '
        "would be clipped to it."
    )
    zh = '{path} 的列 "{column}":{count} 行超出 {allowed}(首见于第 {row} 行)。将被截断到该范围。'
    fix_en = "Correct the rows, or accept the clipping: --accept FC-5021"
    fix_zh = "请修正这些行,或接受截断:--accept FC-5021"


class DecimalMarkError(DataError):
    """Numbers are written with a decimal comma or with separators of thousands."""

    code = "FC-5022"
    en = 'Column "{column}" of {path}, {count} rows: numbers use {mark} (first at row {row}).'
    zh = '{path} 的列 "{column}",{count} 行:数字使用{mark}(首见于第 {row} 行)。'
    fix_en = "Write in the mapping under [tables.{table}]: {line}"
    fix_zh = "请在映射的 [tables.{table}] 下写入:{line}"


class DelimiterError(DataError):
    """A CSV file is separated by another character than the mapping says."""

    code = "FC-5023"
    en = "The header line of {path} has one column only and looks separated by {mark}."
    zh = "{path} 的表头只有一列,看起来以{mark}分隔。"
    fix_en = "Write in the mapping under [tables.{table}]: {line}"
    fix_zh = "请在映射的 [tables.{table}] 下写入:{line}"


class EncodingError(DataError):
    """A text file is not in the encoding that the mapping says."""

    code = "FC-5024"
    en = "{path} is not text in {encoding}: row {row} does not decode."
    zh = "{path} 不是 {encoding} 文本:第 {row} 行无法解码。"
    fix_en = 'Export it in UTF-8, or write in the mapping under [tables.{table}]: encoding = "{likely}"'
    fix_zh = '请以 UTF-8 导出,或在映射的 [tables.{table}] 下写入:encoding = "{likely}"'


class ByteOrderMarkError(DataError):
    """A CSV file begins with a byte order mark, which is skipped."""

    code = "FC-5025"
    acceptable = True
    en = "{path} begins with a byte order mark; it is skipped."
    zh = "{path} 以字节顺序标记(BOM)开头;已跳过。"
    fix_en = "Export as UTF-8 without a mark, or accept it: --accept FC-5025"
    fix_zh = "请导出为不带 BOM 的 UTF-8,或接受:--accept FC-5025"


class DateFormatError(DataError):
    """Cells are not dates in the format that the mapping says."""

    code = "FC-5026"
    en = 'Column "{column}" of {path}: {count} cells are no dates in the format {format} (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个单元格不是 {format} 格式的日期(首见于第 {row} 行)。'
    fix_en = 'Write in the mapping under [tables.{table}.columns.{name}]: format = "{likely}"'
    fix_zh = '请在映射的 [tables.{table}.columns.{name}] 下写入:format = "{likely}"'


class MixedDateError(DataError):
    """A column mixes formats of dates, so nobody can tell day from month."""

    code = "FC-5027"
    en = (
        'Column "{column}" of {path} mixes {formats} formats of dates: {count} cells are not in '
        "{format} (first at row {row})."
    )
    zh = '{path} 的列 "{column}" 混用 {formats} 种日期格式:{count} 个单元格不符合 {format}(首见于第 {row} 行)。'
    fix_en = "Export the column in one format, best YYYY-MM-DD."
    fix_zh = "请以一种格式导出该列,最好为 YYYY-MM-DD。"


class FutureDateError(DataError):
    """Dates lie behind the day on which the tables were taken."""

    code = "FC-5028"
    en = 'Column "{column}" of {path}: {count} dates lie behind the snapshot of {snapshot} (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个日期晚于快照日 {snapshot}(首见于第 {row} 行)。'
    fix_en = "Correct the rows, or the snapshot_date."
    fix_zh = "请修正这些行,或修正 snapshot_date。"


class NotFiniteCellError(DataError):
    """Cells are NaN or infinite instead of empty."""

    code = "FC-5029"
    en = 'Column "{column}" of {path}: {count} cells are NaN or infinite (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个单元格为 NaN 或无穷大(首见于第 {row} 行)。'
    fix_en = "Export empty cells as empty, and mend the division that made them."
    fix_zh = "请将空值导出为空,并修正产生它们的除法。"


class DuplicateKeyError(DataError):
    """Two rows have the same key."""

    code = "FC-5030"
    en = "{path}: {count} rows repeat the key {key} of an earlier row (first at row {row})."
    zh = "{path}:{count} 行重复了前面某行的键 {key}(首见于第 {row} 行)。"
    fix_en = "Keep one row for each {key}."
    fix_zh = "每个 {key} 请只保留一行。"


class UnknownDatasetError(DataError):
    """A data-set name is unknown."""

    code = "FC-5031"
    en = 'There is no data set named "{name}".'
    zh = '没有名为 "{name}" 的数据集。'
    fix_en = "Known: {known}"
    fix_zh = "可用:{known}"


class UnknownScenarioError(DataError):
    """A scenario pack of the simulator is unknown."""

    code = "FC-5061"
    en = 'The simulator has no scenario named "{name}".'
    zh = '模拟器没有名为 "{name}" 的情景。'
    fix_en = "Known: {known}"
    fix_zh = "可用:{known}"


class NotSimulatedError(DataError):
    """A folder is not what ``lab simulate`` writes."""

    code = "FC-5062"
    en = "{path} is not a simulated world: {problem}."
    zh = "{path} 不是模拟数据:{problem}。"
    fix_en = "Make one: fedcredit lab simulate --out {path}"
    fix_zh = "生成:fedcredit lab simulate --out {path}"


class ConstantColumnError(DataError):
    """A column has one value everywhere."""

    code = "FC-5032"
    acceptable = True
    en = 'Column "{column}" of {path} has the same value in all {count} rows.'
    zh = '{path} 的列 "{column}" 在全部 {count} 行中取值相同。'
    fix_en = "Check the export; if it is right, accept it: --accept FC-5032"
    fix_zh = "请检查导出;若无误,请接受:--accept FC-5032"


class ExtraColumnError(DataError):
    """A table has a column that the contract does not know; it is not read."""

    code = "FC-5033"
    acceptable = True
    en = 'Column "{column}" of {path} is not in the contract; it is not read.'
    zh = '{path} 的列 "{column}" 不在契约中;不会读取。'
    fix_en = "{hint}"
    fix_zh = "{hint}"


class SwappedColumnsError(DataError):
    """Two columns seem to stand in each other's place."""

    code = "FC-5034"
    en = (
        'Columns "{column}" and "{other}" of {path} look swapped: each fits the range of the other in '
        "{count} rows (first at row {row})."
    )
    zh = '{path} 的列 "{column}" 与 "{other}" 疑似互换:{count} 行的取值各自符合对方的范围(首见于第 {row} 行)。'
    fix_en = "Swap the two names in the mapping under [tables.{table}.columns], or in the header line."
    fix_zh = "请在映射的 [tables.{table}.columns] 或表头中互换这两个列名。"


class OrphanRowError(DataError):
    """Rows point to a key that the other table does not have."""

    code = "FC-5035"
    en = 'Column "{column}" of {path}: {count} rows have no row in {other} (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 行在 {other} 中没有对应行(首见于第 {row} 行)。'
    fix_en = "Export both tables from the same day, with the same filter."
    fix_zh = "请在同一天以相同筛选条件导出两张表。"


class CompressedFileError(DataError):
    """A data file is a compressed archive."""

    code = "FC-5036"
    en = "{path} is a compressed archive ({format}); archives are not opened."
    zh = "{path} 是压缩档({format});不会打开压缩档。"
    fix_en = "Unpack it yourself, look at what came out, and name that file."
    fix_zh = "请自行解压、查看内容,再指定解压后的文件。"


class ExpandingFileError(DataError):
    """A data file would grow beyond all measure when read."""

    code = "FC-5037"
    en = "{path} would grow from {packed} MB to {unpacked} MB when read; the most is {limit} times."
    zh = "{path} 读取时会从 {packed} MB 膨胀到 {unpacked} MB;最多允许 {limit} 倍。"
    fix_en = "Export it again with smaller row groups and an ordinary compression."
    fix_zh = "请以较小的行组和普通压缩重新导出。"


class HugeCellError(DataError):
    """A cell is far longer than any cell of the contract."""

    code = "FC-5038"
    en = "{path} holds a cell or a line of more than {limit} characters (near row {row})."
    zh = "{path} 中有超过 {limit} 个字符的单元格或行(约第 {row} 行)。"
    fix_en = "Look for a quotation mark that is not closed, or leave the column out."
    fix_zh = "请查找未闭合的引号,或去掉该列。"


class FewRowsError(DataError):
    """A table has so few rows that nothing can be said about it."""

    code = "FC-5039"
    acceptable = True
    en = "{path} has {count} rows; fewer than {least} say nothing."
    zh = "{path} 只有 {count} 行;少于 {least} 行无从判断。"
    fix_en = "Check the filter of the export; if it is right, accept it: --accept FC-5039"
    fix_zh = "请检查导出的筛选条件;若无误,请接受:--accept FC-5039"


class UnknownCodeError(DataError):
    """Cells hold codes that neither the contract nor the mapping lists."""

    code = "FC-5041"
    en = (
        'Column "{column}" of {path}: {count} cells hold a code that is not listed (first at row '
        "{row}). Listed are {allowed}."
    )
    zh = '{path} 的列 "{column}":{count} 个单元格的代码未列出(首见于第 {row} 行)。已列出:{allowed}。'
    fix_en = 'Translate it in the mapping under [tables.{table}.columns.{name}.codes]: "YOURS" = "{example}"'
    fix_zh = '请在映射的 [tables.{table}.columns.{name}.codes] 下翻译:"YOURS" = "{example}"'


class RaggedRowError(DataError):
    """A line of a CSV file has more or fewer cells than its header."""

    code = "FC-5042"
    en = "{path}: {count} lines have another number of cells than the header line (first at row {row})."
    zh = "{path}:{count} 行的单元格数与表头不同(首见于第 {row} 行)。"
    fix_en = "Quote cells that hold the separator, and export again."
    fix_zh = "请为包含分隔符的单元格加引号后重新导出。"


class TokenFormatError(DataError):
    """Tokens are not 64 hexadecimal digits."""

    code = "FC-5043"
    en = 'Column "{column}" of {path}: {count} cells are no tokens (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个单元格不是令牌(首见于第 {row} 行)。'
    fix_en = "Make them inside the institution: fedcredit node tokenise"
    fix_zh = "请在机构内部生成:fedcredit node tokenise"


class UnkeyedTokenError(DataError):
    """Tokens are hashes without a key, which anybody can try out."""

    code = "FC-5044"
    en = (
        'Column "{column}" of {path} holds plain {method} hashes: {count} of {tried} tried identifiers '
        "were found (first at row {row})."
    )
    zh = '{path} 的列 "{column}" 是不带密钥的 {method} 哈希:试算的 {tried} 个标识中命中 {count} 个(首见于第 {row} 行)。'
    fix_en = "Make tokens under the consortium key: fedcredit node tokenise"
    fix_zh = "请用联盟密钥生成令牌:fedcredit node tokenise"


class EmptyWithoutReasonError(DataError):
    """Cells are empty where the contract asks for the reason."""

    code = "FC-5045"
    en = 'Column "{column}" of {path}: {count} cells are empty without a reason (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个单元格为空且未说明原因(首见于第 {row} 行)。'
    fix_en = (
        "Write in the mapping under [tables.{table}.columns.{name}]: empty = -1 (-1 not collected, -2 "
        "not applicable, -3 refused, -4 sensor gap)"
    )
    fix_zh = "请在映射的 [tables.{table}.columns.{name}] 下写入:empty = -1(-1 未采集,-2 不适用,-3 拒绝,-4 传感器缺失)"


class DuplicateColumnError(DataError):
    """A header line names a column twice."""

    code = "FC-5046"
    en = 'The header line of {path} names the column "{column}" {count} times.'
    zh = '{path} 的表头中列 "{column}" 出现 {count} 次。'
    fix_en = "Rename one of them in the export."
    fix_zh = "请在导出中重命名其中一列。"


class LegalBasisError(DataError):
    """Rows have no legal basis, or their consent was withdrawn; they are left out."""

    code = "FC-5047"
    acceptable = True
    en = (
        "{path}: {count} rows have no legal basis or a withdrawn consent (first at row {row}). They are "
        "left out of every round."
    )
    zh = "{path}:{count} 行没有合法性基础或已撤回同意(首见于第 {row} 行)。它们不参与任何轮次。"
    fix_en = "Check them with the data protection officer, then accept it: --accept FC-5047"
    fix_zh = "请与数据保护负责人核对,然后接受:--accept FC-5047"


class ContradictionError(DataError):
    """Columns of one row contradict each other."""

    code = "FC-5048"
    en = "{path}: {rule} does not hold in {count} rows (first at row {row})."
    zh = "{path}:{count} 行不满足 {rule}(首见于第 {row} 行)。"
    fix_en = "Correct the rows, or the mapping of these columns."
    fix_zh = "请修正这些行,或这些列的映射。"


class PlaceholderDateError(DataError):
    """Dates are placeholders such as 1900-01-01."""

    code = "FC-5049"
    acceptable = True
    en = 'Column "{column}" of {path}: {count} dates are placeholders of a system (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个日期是系统占位值(首见于第 {row} 行)。'
    fix_en = "Export them as empty, or accept them as empty: --accept FC-5049"
    fix_zh = "请导出为空,或接受其为空:--accept FC-5049"


class SparseColumnError(DataError):
    """A column of the minimum set is mostly missing."""

    code = "FC-5050"
    acceptable = True
    en = 'Column "{column}" of {path} is missing in {share} of the rows; it belongs to the minimum set.'
    zh = '{path} 的列 "{column}" 缺失比例为 {share};它属于最小字段集。'
    fix_en = "Find out why; if nobody has it, accept it: --accept FC-5050"
    fix_zh = "请查明原因;若确实没有,请接受:--accept FC-5050"


class IdentifierError(DataError):
    """Identifiers are not what they should be: length, letters or check digit."""

    code = "FC-5051"
    en = 'Column "{column}" of {path}: {count} cells are no {what} (first at row {row}). No token was made.'
    zh = '{path} 的列 "{column}":{count} 个单元格不是{what}(首见于第 {row} 行)。未生成任何令牌。'
    fix_en = "Correct the rows at their source, or leave them out of the export."
    fix_zh = "请在源头修正这些行,或在导出时去掉。"


class LabelKindError(DataError):
    """A kind of label is not in the label map."""

    code = "FC-5052"
    en = (
        'Column "{column}" of {path}: {count} rows have a kind of label that {map} does not explain '
        "(first at row {row})."
    )
    zh = '{path} 的列 "{column}":{count} 行的标签口径未在 {map} 中说明(首见于第 {row} 行)。'
    fix_en = "Add [labels.KIND] with dpd_equiv, lag_days and known_at to {map}."
    fix_zh = "请在 {map} 中加入 [labels.KIND],写明 dpd_equiv、lag_days 和 known_at。"


class SeriesGapError(DataError):
    """A monthly series has months without a row."""

    code = "FC-5053"
    acceptable = True
    en = "{path}: {count} series skip a month (first at row {row})."
    zh = "{path}:{count} 个序列有缺月(首见于第 {row} 行)。"
    fix_en = "Export every month, also those without a payment; or accept it: --accept FC-5053"
    fix_zh = "请导出每个月(含无还款月份);或接受:--accept FC-5053"


class UndeclaredCodeError(DataError):
    """Cells are -1 to -4 in a column that has codes for missing, and the mapping does not say that they are codes."""

    code = "FC-5054"
    en = (
        'Column "{column}" of {path}: {count} cells are a number from -4 to -1 (first at row {row}), and the '
        "mapping does not say whether these are codes for missing."
    )
    zh = '{path} 的列 "{column}":{count} 个单元格是 -4 至 -1 的数(首见于第 {row} 行),映射未说明它们是否为缺失代码。'
    fix_en = (
        "If they are (-1 not collected, -2 not applicable, -3 refused, -4 sensor gap), write in the mapping under "
        "[tables.{table}.columns.{name}]: typed = true. If they are amounts, correct the rows."
    )
    fix_zh = (
        "若是缺失代码(-1 未采集,-2 不适用,-3 拒绝,-4 传感器缺失),请在映射的 [tables.{table}.columns.{name}] "
        "下写入:typed = true。若是真实数值,请修正这些行。"
    )


class EarlyLabelError(DataError):
    """A label is known earlier after its event than the label map says that the institution can know it."""

    code = "FC-5055"
    acceptable = True
    en = 'Column "{column}" of {path}: {count} labels are known earlier than {map} allows (first at row {row}).'
    zh = '{path} 的列 "{column}":{count} 个标签的知晓日早于 {map} 允许的日期(首见于第 {row} 行)。'
    fix_en = "Correct lag_days or known_at in {map}, or the column; or accept it: --accept FC-5055"
    fix_zh = "请修正 {map} 中的 lag_days 或 known_at,或修正该列;或接受:--accept FC-5055"


class TableChangedError(DataError):
    """A file of the institution's own tables changed between its check and the making of features."""

    code = "FC-5056"
    en = "{path} changed while the node read it: what was checked is not what would be trained on."
    zh = "{path} 在节点读取期间发生变化:通过检查的内容与将用于训练的内容不一致。"
    fix_en = "Wait until the export is complete, then start the node again."
    fix_zh = "请等待导出完成后重新启动节点。"


class LaterFeatureError(DataError):
    """A feature was known only after its day of observation (trap L1)."""

    code = "FC-5101"
    en = '{path}: "{column}" is later than the day of observation in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 晚于观察日(首见于第 {row} 行)。'
    fix_en = "Build the feature from what was known on that day."
    fix_zh = "请只用观察日当天已知的信息构造特征。"


class LateBureauError(DataError):
    """The bureau was asked after the origination (trap L2)."""

    code = "FC-5102"
    en = '{path}: "{column}" is later than the origination in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 晚于放款日(首见于第 {row} 行)。'
    fix_en = "Take the bureau report of the decision, not a later one."
    fix_zh = "请使用决策时的征信报告,不要使用之后的。"


class CollectionsFeatureError(DataError):
    """A collections field serves a head of 90 days past due within 60 days (trap L3)."""

    code = "FC-5103"
    en = "{path}: the feature {column} reads collections fields less than 60 days before the label."
    zh = "{path}:特征 {column} 在标签前 60 天内使用催收字段。"
    fix_en = "Take it out of that head, or end it 60 days before."
    fix_zh = "请从该目标中去掉,或提前 60 天截止。"


class LateBalanceError(DataError):
    """A balance or last payment was taken at a month-end after the observation (trap L4)."""

    code = "FC-5104"
    en = '{path}: "{column}" lies behind the day of observation in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 晚于观察日(首见于第 {row} 行)。'
    fix_en = "Take the last month that had ended on that day."
    fix_zh = "请使用观察日前已结束的最后一个月。"


class RestatedGuideError(DataError):
    """A residual value comes from a later issue of the guide (trap L5)."""

    code = "FC-5105"
    en = '{path}: "{column}" is later than its week in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 晚于所属周(首见于第 {row} 行)。'
    fix_en = "Take the issue that was out in that week."
    fix_zh = "请使用当周已发布的版本。"


class DisposalFeatureError(DataError):
    """Values from a disposal or a repossession stand among the features (trap L6)."""

    code = "FC-5106"
    en = '{path}: "{column}" comes from a disposal in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 来自处置(首见于第 {row} 行)。'
    fix_en = "Take the appraisal at the decision; a disposal price is an outcome."
    fix_zh = "请使用决策时的评估;处置价格属于结果。"


class ImmobilisedTelematicsError(DataError):
    """Telematics run past an immobilisation, a new box or a repossession (trap L7)."""

    code = "FC-5107"
    en = '{path}: "{column}" runs past an intervention on the vehicle in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 超过了对车辆的干预时点(首见于第 {row} 行)。'
    fix_en = "End the telematics the day before the intervention."
    fix_zh = "请将车联网数据截止到干预前一天。"


class LateClaimError(DataError):
    """A claim is used before it was reported (trap L8)."""

    code = "FC-5108"
    en = '{path}: "{column}" lies before the report in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 早于报案日(首见于第 {row} 行)。'
    fix_en = "Use a claim from the day of its report."
    fix_zh = "请自报案日起使用理赔信息。"


class RestructuredGoodError(DataError):
    """A restructured loan counts as good (trap L9)."""

    code = "FC-5109"
    en = (
        '{path}: "{column}" is good although the contract was restructured in its window, in {count} '
        "rows (first at row {row})."
    )
    zh = '{path}:{count} 行的 "{column}" 为好样本,但合同在表现期内展期(首见于第 {row} 行)。'
    fix_en = "Count it as bad, or as indeterminate."
    fix_zh = "请计为坏样本,或标为不确定。"


class FoldError(DataError):
    """An entity stands in more than one fold or part (trap L10)."""

    code = "FC-5110"
    en = '{path}: "{column}" is not the one that the token gives in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 与令牌给出的不一致(首见于第 {row} 行)。'
    fix_en = "Use int(entity_tok[:8], 16) % 10, and one part for each entity."
    fix_zh = "请使用 int(entity_tok[:8], 16) % 10,且每个主体只归一个部分。"


class TargetEncodingError(DataError):
    """A target encoding saw rows outside the development part (trap L11)."""

    code = "FC-5111"
    en = "{path}: the feature {column} encodes the target from more than the development part."
    zh = "{path}:特征 {column} 的目标编码使用了开发样本以外的数据。"
    fix_en = "Fit it on the development part only, by fold."
    fix_zh = "请只在开发样本上按折拟合。"


class OutOfTimeFitError(DataError):
    """Scaling or bins were fitted with out-of-time rows (trap L12)."""

    code = "FC-5112"
    en = "{path}: the feature {column} was fitted with rows from the out-of-time part."
    zh = "{path}:特征 {column} 的拟合包含了时间外样本。"
    fix_en = "Fit it before {oot}, or use public edges."
    fix_zh = "请在 {oot} 之前拟合,或使用公开分箱。"


class EarlyPrepaymentError(DataError):
    """A loan prepaid before six months counts fully as good (trap L13)."""

    code = "FC-5113"
    en = (
        '{path}: "{column}" is good at full weight although the loan was prepaid before six months, in '
        "{count} rows (first at row {row})."
    )
    zh = '{path}:{count} 行的 "{column}" 以全权重计为好样本,但在六个月内提前结清(首见于第 {row} 行)。'
    fix_en = "Give such rows a censoring weight below 1."
    fix_zh = "请为这些行设置小于 1 的删失权重。"


class RewrittenStatusError(DataError):
    """A status was rewritten long after its month (trap L14)."""

    code = "FC-5114"
    en = '{path}: "{column}" lies more than {limit} days behind its month in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 晚于所属月份 {limit} 天以上(首见于第 {row} 行)。'
    fix_en = "Export each month as it was first reported."
    fix_zh = "请按首次报送时的状态导出每个月。"


class SurvivorshipError(DataError):
    """Only what is still active is in the extract (trap L15)."""

    code = "FC-5115"
    en = "{path} holds {count} rows and none that had ended by the snapshot."
    zh = "{path} 共 {count} 行,没有任何在快照日前已终止的记录。"
    fix_en = "Export all that ever were, not only what is active today."
    fix_zh = "请导出全部历史记录,而不仅是当前有效的。"


class OpenWindowError(DataError):
    """The label's window had not ended (trap L16)."""

    code = "FC-5116"
    en = '{path}: "{column}" is good although its window was still open, in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 为好样本,但表现期尚未结束(首见于第 {row} 行)。'
    fix_en = "Leave out observations younger than window and reporting lag."
    fix_zh = "请去掉距今短于表现期加报送滞后的观察点。"


class InvestigationLinkError(DataError):
    """A link between entities comes from the investigation (trap L17)."""

    code = "FC-5117"
    en = '{path}: "{column}" says that {count} links come from an investigation (first at row {row}).'
    zh = '{path}:"{column}" 表明 {count} 条关联来自调查(首见于第 {row} 行)。'
    fix_en = "Keep only links that were seen before the suspicion."
    fix_zh = "请只保留怀疑产生之前已有的关联。"


class LateMissingCodeError(DataError):
    """A code for missing was set after the default (trap L18)."""

    code = "FC-5118"
    en = '{path}: "{column}" was set after the default in {count} rows (first at row {row}).'
    zh = '{path}:{count} 行的 "{column}" 在违约之后才设置(首见于第 {row} 行)。'
    fix_en = "Use the state on the day of observation."
    fix_zh = "请使用观察日当天的状态。"


class LeakageCanaryError(DataError):
    """One feature alone tells the outcome apart almost perfectly, which no honest feature does."""

    code = "FC-5120"
    en = '{path}: "{column}" alone has an AUC of {auc} out of time; above {limit} it is a leak until shown otherwise.'
    zh = '{path}:"{column}" 单变量时间外 AUC 为 {auc};超过 {limit} 即视为泄漏。'
    fix_en = "Find out how the column is made; leave it out if it is written after the outcome."
    fix_zh = "请查明该列如何产生;若在结果之后写入,请去掉。"


class StrongFeatureError(DataError):
    """One feature alone is so strong that a reviewer must look at it."""

    code = "FC-5121"
    acceptable = True
    en = '{path}: "{column}" alone has an AUC of {auc} out of time; from {limit} a reviewer signs it off.'
    zh = '{path}:"{column}" 单变量时间外 AUC 为 {auc};达到 {limit} 须由复核人签认。'
    fix_en = "Let a reviewer look at how it is made, then accept it: --accept FC-5121"
    fix_zh = "请由复核人查看其来源,然后接受:--accept FC-5121"


# --- FC-6xxx: model --------------------------------------------------------------------------------------


class ModelError(FedcreditError):
    """A model, an update or a figure is not usable."""

    exit_code = 8


class NotFiniteError(ModelError):
    """Numbers that must be finite are not."""

    code = "FC-6001"
    exit_code = 1
    en = "{what} has an entry that is not finite or too large."
    zh = "{what} 含有非有限或过大的数值。"
    fix_en = "Lower the learning rate, and check the data with fedcredit node check-data NODE."
    fix_zh = "请降低学习率,并用 fedcredit node check-data NODE 检查数据。"


class LayoutMismatchError(ModelError):
    """A vector does not have the layout that the plan gives the model."""

    code = "FC-6002"
    en = "{what} has {actual} numbers, the layout of this plan has {expected}."
    zh = "{what} 有 {actual} 个数,该计划的布局为 {expected}。"
    fix_en = "Both sides must run the same plan and the same fedcredit version."
    fix_zh = "双方必须使用同一计划与同一 fedcredit 版本。"


class EvaluationError(ModelError):
    """A figure cannot be computed from what was given."""

    code = "FC-6003"
    en = "{figure} cannot be computed: {problem}."
    zh = "无法计算 {figure}:{problem}。"
    fix_en = "Both outcomes must be present in the evaluated rows."
    fix_zh = "被评估的行必须同时包含两类结果。"


class NothingTrainedError(ModelError):
    """A run ended without a trained model."""

    code = "FC-6004"
    exit_code = 1
    en = "The run ended without a trained model: {reason}."
    zh = "运行结束但未训练出模型:{reason}。"
    fix_en = "See the run's log; the last checkpoint is unchanged."
    fix_zh = "请查看运行日志;最后的检查点未改变。"


class EvaluationInputError(ModelError):
    """Scores, labels or bin edges given to an evaluation are not what a figure is defined on."""

    code = "FC-6005"
    en = "{what} cannot be evaluated: {problem}."
    zh = "{what} 无法用于评估:{problem}。"
    fix_en = "A score is a probability from 0 to 1; a label is 1 for default, 0 for none; bin edges rise from 0 to 1."
    fix_zh = "评分是 0 到 1 之间的概率;标签为 1(违约)或 0(未违约);分箱边界从 0 递增到 1。"


class ModelNotReleasedError(ModelError):
    """The members' votes on held-out borrowers do not release the model."""

    code = "FC-6006"
    en = (
        "The members did not release the model: {yes} say yes, {no} say no, {abstain} abstain; a release needs more "
        "than {colluders} yes, and more yes than no or unheard."
    )
    zh = (
        "各成员未放行该模型:{yes} 票赞成,{no} 票反对,{abstain} 票弃权;"
        "放行需要赞成票多于 {colluders} 票,且多于反对与未到之和。"
    )
    fix_en = (
        "Its last checkpoint stays as a candidate: do not use it. Read the votes (fedcredit audit view --kind closed), "
        "find out who poisoned or failed, and train again under a new plan."
    )
    fix_zh = (
        "最后的检查点仅作为候选保留,请勿使用。查看投票(fedcredit audit view --kind closed),"
        "查明是投毒还是故障,再以新计划重新训练。"
    )


# --- FC-7xxx: storage ------------------------------------------------------------------------------------


class StorageError(FedcreditError):
    """A disk, file or database does not do what it must."""

    exit_code = 1


class DiskFullError(StorageError):
    """There is no space left; nothing was half-written."""

    code = "FC-7001"
    en = "No space left while writing {path}. The previous content is unchanged."
    zh = "写入 {path} 时磁盘已满。原有内容未变。"
    fix_en = "Free some space, then run the same command again."
    fix_zh = "请释放空间后重新执行。"


class StoreCorruptError(StorageError):
    """A database or file of fedcredit's own is damaged."""

    code = "FC-7002"
    en = "{path} is damaged: {problem}."
    zh = "{path} 已损坏:{problem}。"
    fix_en = "Stop, keep the file as evidence, and restore the state directory from backup."
    fix_zh = "请停止并保留该文件作为证据,从备份恢复状态目录。"


class NotWritableError(StorageError):
    """A place cannot be written."""

    code = "FC-7003"
    en = "{path} cannot be written: {problem}."
    zh = "无法写入 {path}:{problem}。"
    fix_en = "Check owner and mode, or give another place."
    fix_zh = "请检查属主与权限,或指定其他位置。"


class AlreadyExistsError(StorageError):
    """Something that must not be overwritten exists."""

    code = "FC-7004"
    en = "{path} exists already and is not overwritten."
    zh = "{path} 已存在,不会覆盖。"
    fix_en = "Choose another place, or remove it if it is not needed."
    fix_zh = "请选择其他位置,或在不需要时删除。"


class CheckpointError(StorageError):
    """A checkpoint is missing or does not match its digest."""

    code = "FC-7005"
    en = "The checkpoint {path} {problem}."
    zh = "检查点 {path} {problem}。"
    fix_en = "Resume from an earlier checkpoint, or start the run again."
    fix_zh = "请从更早的检查点继续,或重新开始。"


# --- FC-9xxx: bugs ---------------------------------------------------------------------------------------


class InternalError(FedcreditError):
    """A bug in fedcredit: something happened that the code says cannot."""

    code = "FC-9001"
    exit_code = 70
    en = "fedcredit failed in a way it should not ({kind})."
    zh = "fedcredit 发生了不应出现的错误({kind})。"
    fix_en = "Run again with --debug and report it; nothing private is in the report unless you add it."
    fix_zh = "请用 --debug 重试并报告;除非您主动添加,报告中没有隐私内容。"
