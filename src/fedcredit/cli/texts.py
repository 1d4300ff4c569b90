"""What the commands say to people, in English and Chinese.

The English template stands in the code, where the command says it, and is the key of its Chinese entry. The entries of
``fedcredit audit``, of ``demo --break`` and of plans stand in modules of their own; here they all come together. Both
have the same fields with the same formats, so a figure reads the same in both; ``tests/unit/cli/test_texts.py`` holds
every template against this catalogue. Names of commands, options, files, error codes and data sets, and
the JSON envelope, are the same in every language. The help texts of options stay English: typer builds them before
``--lang`` is read. The sentences of errors have their Chinese in ``errors.py``.
"""

from __future__ import annotations

from typing import Final

from fedcredit.cli.audit_texts import AUDIT_ZH
from fedcredit.cli.break_texts import BREAK_ZH
from fedcredit.cli.data_texts import DATA_ZH
from fedcredit.cli.plan_texts import PLAN_ZH
from fedcredit.cli.simulate_texts import SIMULATE_ZH
from fedcredit.errors import operator_language

ZH: Final[dict[str, str]] = {
    **AUDIT_ZH,
    **BREAK_ZH,
    **DATA_ZH,
    **PLAN_ZH,
    **SIMULATE_ZH,
    # every command
    "Next:": "下一步:",
    "Stopped.": "已停止。",
    "wrote {path}": "已写入 {path}",
    "institution": "机构",
    "(by every institution)": "(由各机构执行)",
    # budget
    "the ledger holds this cap already; node.toml names it too": "账本中已是此上限;node.toml 中亦然",
    "cap of {partition}: epsilon {before:g} before, {epsilon:g} now; in the ledger and in node.toml": (
        "{partition}部分的上限:原 epsilon {before:g},现 {epsilon:g};已写入账本和 node.toml"
    ),
    "left": "可再用",
    "with approved plans": "计入已批准计划",
    "found at 1 % false alarms": "误报 1 % 时识别率",
    "epsilon": "隐私预算 ε",
    "   left: the epsilon that one further plan may state; squares add up, so it is more than the difference": (
        "   可再用:再有一个计划时它可声明的 epsilon;因按平方相加,故大于差值"
    ),
    "   found: the largest share of the borrowers that any membership test with 1 % false alarms can find": (
        "   识别率:误报率为 1 % 的任何成员推断检验至多能识别出的借款人比例"
    ),
    "{partition}: some releases had no protecting noise": "{partition}:部分发布没有保护性噪声",
    "   a / b: a of the sum, b if secure aggregation fails and each message is read alone": (
        "   a / b:a 指总和,b 指安全聚合失效、各消息被单独读取时"
    ),
    "{count} approved plans are of another version or cannot hold; they are not counted": (
        "{count} 个已批准计划版本不符或不成立;未计入"
    ),
    "approved plans may ask for more than a cap; rounds beyond it will be refused": (
        "已批准计划可能超出上限;超出上限的轮次将被拒绝"
    ),
    "   amended {day}: cap of {partition} {epsilon:g}, by {approvers}: {reason}": (
        "   {day} 修改:{partition}部分的上限改为 {epsilon:g},批准人 {approvers}:{reason}"
    ),
    # coord
    "wrote {folder}/federation.toml, keys and the relay's certificate": (
        "已写入 {folder}/federation.toml、密钥和中继证书"
    ),
    "   federation key: {fingerprint}   ← read it aloud to every institution": (
        "   联邦密钥指纹:{fingerprint}   ← 请向各机构当面或电话读出"
    ),
    "(by the institution)": "(由机构执行)",
    "{institution} ({kind}) is member {members} of {consortium}": (
        "{institution}({kind})已加入 {consortium},现有成员 {members} 家"
    ),
    "(once all members are approved)": "(待全部成员获批后执行)",
    "Members": "成员",
    "kind": "类型",
    "fingerprint": "指纹",
    "coordinator serves at {sockets}": "协调方已启动,套接字目录 {sockets}",
    "run {run} started · plan {digest}": "运行 {run} 已启动 · 计划 {digest}",
    "run {run} goes on": "运行 {run} 已继续",
    "waiting for the coordinator …": "正在等待协调方 …",
    "run {run} · {state} · round {round} of {rounds} released · {institutions} institutions": (
        "运行 {run} · {state} · 已发布第 {round} 轮,共 {rounds} 轮 · {institutions} 家机构"
    ),
    "run {run} stopped after round {round} of {rounds}; once the cause is gone:": (
        "运行 {run} 在第 {round} 轮后停止,共 {rounds} 轮;排除原因后执行:"
    ),
    "  {stage} · waiting for {waiting} · for {since:.0f} s, gives up in {left:.0f} s": (
        "  {stage} · 等待 {waiting} · 已 {since:.0f} 秒,{left:.0f} 秒后放弃"
    ),
    "nobody voted on the model: the plan says so": "按计划规定,无人就模型投票",
    "   votes: the members released the model: {said}": "   投票:各成员放行该模型:{said}",
    "NOT RELEASED: the members kept the model back; it stays a candidate: {said}": (
        "未放行:各成员未放行该模型,仅作为候选保留:{said}"
    ),
    "nobody votes on the model: too few members have borrowers enough to judge it": (
        "无人就模型投票:借款人足以作出判断的成员太少"
    ),
    "the vote on the model; the counts behind it stay here": "对模型的投票;所依据的计数留在本机构",
    "the vote on the model": "对模型的投票",
    "no run since the daemon started": "守护进程启动以来没有运行",
    "run {run} finished after {rounds} rounds": "运行 {run} 已完成,共 {rounds} 轮",
    "{released} of {rounds}": "{released} / {rounds}",
    "open": "未完成",
    "Runs": "运行",
    "run": "运行",
    "rounds released": "已发布轮次",
    "(if it was cut off)": "(若它曾被中断)",
    "(once the coordinator serves)": "(协调方开始服务之后)",
    "   the coordinator needs for a plan: --borrowers {entry}   (COUNT: training borrowers, rounded; public)": (
        "   制定计划时协调方需要:--borrowers {entry}   (COUNT:训练借款人数,取整;公开)"
    ),
    "state": "状态",
    "   newest version of the canonical data set that all speak: {version}": (
        "   各成员共同支持的最新数据结构版本:{version}"
    ),
    "no version of the canonical data set is spoken by all: no plan on canonical tables can be made": (
        "没有各成员共同支持的数据结构版本:无法制定基于规范数据表的计划"
    ),
    # demo
    "fedcredit {version} demo · {data} · {model} · everything on this machine": (
        "fedcredit {version} 演示 · {data} · {model} · 全部在本机进行"
    ),
    "(real processes, TLS)": "(真实进程,TLS)",
    "keys, enrolment, approved plan        {institutions} institutions": (
        "密钥、登记、计划批准                  {institutions} 家机构"
    ),
    "data checked against the contract     {borrowers:,} borrowers, {default:.1%} default": (
        "数据已按契约检查                      {borrowers:,} 位借款人,违约率 {default:.1%}"
    ),
    "epsilon = inf: this run trains WITHOUT differential privacy; every output says so": (
        "epsilon = inf:本次训练不使用差分隐私;所有输出均注明"
    ),
    "test noise: the noise is repeatable and protects NOBODY; every output says so": (
        "测试噪声:噪声可重现,不保护任何人;所有输出均注明"
    ),
    "SIMULATED data: every person, vehicle and institution is made up": "模拟数据:所有人员、车辆和机构均为虚构",
    "{institution} is left out: {reason}": "{institution} 未参加:{reason}",
    "only {bads} defaults among the test records: figures from so few are no result": (
        "测试样本中仅有 {bads} 笔违约:样本过少,指标不能作为结论"
    ),
    (
        "{borrowers:,} borrowers are at two institutions or more, one at {most}: epsilon is per institution, "
        "and their losses add up"
    ): "{borrowers:,} 位借款人同时在两家或以上机构,最多 {most} 家:epsilon 按机构计,损失相加",
    "OPEN aggregation: the coordinator reads the message of every institution": ("开放聚合:协调方可读取每家机构的消息"),
    "round": "轮次",
    "AUC {auc:.3f}  ε {epsilon:.2f}": "AUC {auc:.3f}  ε {epsilon:.2f}",
    # the result of a demo
    " Scored on the {borrowers:,} held-out borrowers of all institutions, 95 % intervals;": (
        " 在全部机构的 {borrowers:,} 位留出借款人上评估,95 % 置信区间;"
    ),
    " {provenance}.": " {provenance}。",
    "model": "模型",
    "trained on": "训练样本数",
    "AUC": "AUC",
    "KS": "KS",
    "federated gains": "联邦增益",
    "on its own customers": "对自有客户的增益",
    "{institution} alone": "{institution} 单独训练",
    "federated, ours": "联邦训练(本次)",
    "pooled, no privacy": "集中训练(无隐私保护)",
    "too few": "样本不足",
    "NOT PRIVATE: nothing here is protected by differential privacy": ("无隐私保护:此处任何内容都不受差分隐私保护"),
    (
        " Privacy: every message is ({epsilon:g}, {delta:g})-differentially private on its own over the whole "
        "training, per {unit}"
    ): " 隐私:整个训练过程中,每家机构发出的消息单独满足 ({epsilon:g}, {delta:g})-差分隐私,保护单位为{unit}",
    (
        " Privacy: the sums are ({epsilon:g}, {delta:g})-differentially private over the whole training, per {unit}; "
        "whoever reads a message alone faces epsilon {alone:.2f}"
    ): (
        " 隐私:整个训练过程中,各机构消息之和满足 ({epsilon:g}, {delta:g})-差分隐私,保护单位为{unit};"
        "若单条消息被单独读取,epsilon 为 {alone:.2f}"
    ),
    "          a membership test with 1 % false alarms finds at most {ceiling:.1%} of the borrowers": (
        "       误报率为 1 % 的成员推断检验至多识别出 {ceiling:.1%} 的借款人"
    ),
    "          OPEN aggregation: the coordinator read the message of every institution": (
        "       开放聚合:协调方读取了每家机构的消息"
    ),
    "          the coordinator read sums only, each once {threshold} institutions had agreed to open it": (
        "       协调方只读取总和,每个总和均在 {threshold} 家机构同意之后打开"
    ),
    "What left each institution ({types}; sealed)": "各机构对外发出的内容({types};已密封)",
    "messages": "消息数",
    "kB out": "发出 kB",
    "kB in": "收到 kB",
    "ε spent of cap": "已用 ε / 上限",
    "{spent:.3f} of {cap:.3f}": "{spent:.3f} / {cap:.3f}",
    "{spent:.3f} ({alone:.3f} alone) of {cap:.3f}": "{spent:.3f}(单独读取时 {alone:.3f})/ {cap:.3f}",
    (
        " Federated {federated:.3f} · average of alone {alone:.3f} · pooled without privacy {pooled:.3f} · "
        "{seconds:.0f} s"
    ): (" 联邦训练 {federated:.3f} · 单独训练平均 {alone:.3f} · 集中训练(无隐私保护) {pooled:.3f} · {seconds:.0f} 秒"),
    # lab
    "wrote {path} ({kilobytes:,.0f} kB, SHA-256 checked)": "已写入 {path}({kilobytes:,.0f} kB,SHA-256 校验通过)",
    "   export {path} yourself, in R:": ("   请自行在 R 中导出 {path}:"),
    # node
    "wrote {folder}/node.toml and keys (they never leave)": "已写入 {folder}/node.toml 和密钥(均不离开本机构)",
    "   fingerprint of {institution}: {fingerprint}   ← read it to the coordinator when asked": (
        "   {institution} 的指纹:{fingerprint}   ← 协调方询问时请读出"
    ),
    "{borrowers:,} borrowers · {default:.1%} default · modalities {modalities}": (
        "{borrowers:,} 位借款人 · 违约率 {default:.1%} · 模态 {modalities}"
    ),
    "{dropped:,} rows are left out: their borrower has another row, and the unit is the borrower": (
        "略去 {dropped:,} 行:其借款人另有一行,而保护单位是借款人"
    ),
    "pinned the coordinator of {consortium}, relay {relay}": "已绑定 {consortium} 的协调方,中继 {relay}",
    "wrote {path}: send it to the coordinator": "已写入 {path}:请发送给协调方",
    "(by the coordinator)": "(由协调方执行)",
    "(both from the coordinator)": "(两者均由协调方提供)",
    "Plan {digest} ({plan}) at {institution}:": "计划 {digest}({plan})在 {institution}:",
    "approved plan {digest} ({plan})": "已批准计划 {digest}({plan})",
    "the node is running, so its ledger was not read: a round beyond a cap would be refused": (
        "节点正在运行,未读取其账本:超出上限的轮次会被拒绝"
    ),
    "   figures from the noised counts of all members: {path}": "   由全体成员的加噪计数得出的指标:{path}",
    "{institution} answers at {place} · {borrowers:,} borrowers": (
        "{institution} 已在 {place} 应答 · {borrowers:,} 位借款人"
    ),
    "borrowers": "借款人",
    "epsilon spent": "已用隐私预算 ε",
    "cap": "上限",
    "releases": "发布次数",
    "privacy ledger verified · {entries} entries, head {head}": "隐私账本验证通过 · {entries} 条,账本头 {head}",
    "audit log verified · {entries} entries, head {head}": "审计日志验证通过 · {entries} 条,日志头 {head}",
    "   coordinator: {fingerprint}": "   协调方:{fingerprint}",
    "   no coordinator is pinned yet": "   尚未绑定协调方",
    # lab sweep
    "shared noise without secure aggregation: an experiment on public data, and the table says so": (
        "无安全聚合的分担噪声:仅为公开数据实验,表中已注明"
    ),
    "   seed {seed}  epsilon {epsilon:g}  AUC {auc:.4f}  gap {gap:+.4f}": (
        "   种子 {seed}  epsilon {epsilon:g}  AUC {auc:.4f}  差距 {gap:+.4f}"
    ),
    "epsilon, message alone": "epsilon(单独消息)",
    "gap to boosting without privacy": "与无隐私提升树的差距",
    "Brier": "Brier",
    "Privacy and utility": "隐私与效用",
}

WORDS_ZH: Final[dict[str, str]] = {
    # states of a run (daemon/control.py)
    "keys": "收集周期密钥",
    "roots": "交换配对密钥",
    "answer": "收集应答",
    "upload": "收集带掩码的更新",
    "accept": "同意参与名单",
    "reveal": "打开总和",
    "close": "出示日志",
    "idle": "空闲",
    "running": "进行中",
    "finished": "已完成",
    "failed": "已失败",
    "rejected": "未放行",
    # votes on a model (evaluation/vote.py)
    "released": "已放行",
    "not-released": "未放行",
    "not-voted": "未投票",
    "yes": "赞成",
    "no": "反对",
    "abstain": "弃权",
    "better-than-chance": "优于随机",
    "below-floor": "低于下限",
    "cannot-tell": "无法判断",
    "too-few": "样本过少",
    "no-counts": "未参加评估",
    # models (config/plan.py)
    "trees": "提升树",
    "scorecard": "评分卡",
    "network": "神经网络",
    "logistic": "逻辑回归",
    # types of institution (parties.py)
    "bank": "银行",
    "auto_finance": "汽车金融公司",
    "guarantee_fund": "融资担保机构",
    "insurer": "保险公司",
    "lessor": "融资租赁公司",
    # the unit of privacy and the two parts of a ledger (privacy/plan.py)
    "borrower": "借款人",
    "train": "训练",
    "holdout": "留出",
    # where data come from (lab/results.py)
    "real loans of real lenders": "真实贷款机构的真实贷款",
    "real borrowers; their segments stand in for institutions, the names are ours": (
        "真实借款人;以客群代表机构,机构名称为本演示所拟"
    ),
    "nobody and nothing in it is real": "其中没有任何真实的人或事",
    # why an institution of a simulated world is left out (lab/simulated.py)
    "no label of this kind": "没有此类标签",
    "one outcome only": "仅有一类结果",
    # why rows are not learnt from (features/labels.py)
    "no legal basis or consent withdrawn": "无合法性基础或已撤回同意",
    "not accepted": "未获批",
    "out of time": "时间外样本",
    "no label": "无标签",
    "indeterminate": "不确定样本",
    "censored": "删失样本",
    "another contract of the borrower": "同一借款人的另一合同",
}
"""Words that a record holds and a command shows: the key is the word in the record."""


def tr(template: str, /, **fields: object) -> str:
    """Return ``template`` in the operator's language with its fields filled in.

    ``template`` is an English format string, written out where it is used. Without a Chinese entry it stays English:
    a missing translation must not end a command.
    """
    return (ZH.get(template, template) if operator_language() == "zh" else template).format(**fields)


def word(value: str) -> str:
    """Return a word from a record (a state, a type of institution, a model) in the operator's language.

    A word that the catalogue does not know, such as a later version's, is returned as it is.
    """
    return WORDS_ZH.get(value, str(value)) if operator_language() == "zh" else str(value)
