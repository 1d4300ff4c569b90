"""What the commands say to people, in English and Chinese.

The English template stands in the code, where the command says it, and is the key of its Chinese entry here. Both
have the same fields with the same formats, so a figure reads the same in both; ``tests/unit/cli/test_texts.py``
holds every template against this catalogue. Names of commands, options, files, error codes and data sets, and
the JSON envelope, are the same in every language. The help texts of options stay English: typer builds them before
``--lang`` is read. The sentences of errors have their Chinese in ``errors.py``.
"""

from __future__ import annotations

from typing import Final

from fedcredit.errors import operator_language

ZH: Final[dict[str, str]] = {
    # every command
    "Next:": "下一步:",
    "Stopped.": "已停止。",
    "wrote {path}": "已写入 {path}",
    "institution": "机构",
    "(by every institution)": "(由各机构执行)",
    # audit
    "audit log: {entries} entries, chain unbroken, head {head}": "审计日志:{entries} 条,哈希链完整,日志头 {head}",
    "{released} released models match their log lines": "{released} 个已发布模型与日志记录一致",
    "privacy ledger of {institution}: {entries} entries, chain unbroken, head {head}": (
        "{institution} 的隐私账本:{entries} 条,哈希链完整,账本头 {head}"
    ),
    "{partition}: epsilon {epsilon} at delta {delta:g}, {releases} releases": (
        "{partition}:epsilon {epsilon},delta {delta:g},发布 {releases} 次"
    ),
    "all {heads} heads that the coordinator's log holds are in this ledger": (
        "协调方日志中的全部 {heads} 个账本头均在此账本中"
    ),
    "the coordinator's log holds no head of this ledger: nothing was compared": (
        "协调方日志中没有此账本的账本头:未作任何比对"
    ),
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
    "wrote {path} · digest {digest} · {rounds} rounds · {institutions} institutions": (
        "已写入 {path} · 摘要 {digest} · {rounds} 轮 · {institutions} 家机构"
    ),
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
    "no run since the daemon started": "守护进程启动以来没有运行",
    "run {run} finished after {rounds} rounds": "运行 {run} 已完成,共 {rounds} 轮",
    "{released} of {rounds}": "{released} / {rounds}",
    "finished": "已完成",
    "open": "未完成",
    "Runs": "运行",
    "run": "运行",
    "rounds released": "已发布轮次",
    "state": "状态",
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
    "   trains      {model}, {rounds} rounds, quorum {quorum}": "   训练  {model},{rounds} 轮,法定应答数 {quorum}",
    "   split       {fraction:.0%} of borrowers held out by key {salt}; contract {contract}": (
        "   划分  以密钥 {salt} 留出 {fraction:.0%} 的借款人;数据契约 {contract}"
    ),
    "this plan protects NOBODY": "此计划不保护任何人",
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
    # plan check, node preview, node approve
    "this plan can keep its claim: {plan} · digest {digest}": "此计划能够兑现其声明:{plan} · 摘要 {digest}",
    "this plan claims nothing: {plan} · digest {digest}": "此计划不作任何声明:{plan} · 摘要 {digest}",
    "   privacy     epsilon {epsilon:g} at delta {delta:g} per {unit}, {neighbours}; held out {held_out:g}": (
        "   隐私  epsilon {epsilon:g},delta {delta:g},保护单位为{unit}({neighbours});留出部分 {held_out:g}"
    ),
    "   against     whoever sees the sum: {honest} honest shares of noise (quorum {quorum}, colluders {colluders})": (
        "   防范  看到总和的任何人:噪声由 {honest} 个诚实份额构成(法定应答数 {quorum},合谋 {colluders})"
    ),
    "   against     nobody": "   防范  无",
    "               if secure aggregation fails: epsilon {alone:.3f}; held out {held_out:.3f}": (
        "         若安全聚合失效:epsilon {alone:.3f};留出部分 {held_out:.3f}"
    ),
    "   against     whoever opens a message: every message is private alone (local noise)": (
        "   防范  打开消息的任何人:每条消息单独受保护(本地噪声)"
    ),
    "   noise       {mechanism}, accountant {accountant}": "   噪声  {mechanism},核算方法 {accountant}",
    (
        "   releases    {steps} training sums ({rounds} rounds, {retries} repetitions), {preparations} histograms "
        "before, {evaluations} evaluations"
    ): (
        "   发布  训练汇总 {steps} 个({rounds} 轮,重试 {retries} 次),训练前直方图 {preparations} 个,"
        "评估 {evaluations} 次"
    ),
    "   sampling    none: every training borrower is in every round": "   抽样  无:每轮包含全部训练借款人",
    "   sampling    poisson: a training borrower is in a round with chance {rate:g}": (
        "   抽样  泊松抽样:每位训练借款人每轮入选概率为 {rate:g}"
    ),
    "   clip        {clip:g}; the sums are whole numbers on a grid of {grid}": (
        "   裁剪  {clip:g};汇总为整数,网格 {grid}"
    ),
    "   checked by  Renyi accounting, a second route: epsilon {second:.4f} for the training": (
        "   复核  以 Renyi 核算作为第二途径:训练 epsilon 为 {second:.4f}"
    ),
    "   it allows   a membership test with 1 % false alarms to find at most {ceiling:.1%} of the borrowers": (
        "   含义  误报率为 1 % 的成员推断检验至多识别出 {ceiling:.1%} 的借款人"
    ),
    "               and {ceiling:.1%} if secure aggregation fails": "         若安全聚合失效,则为 {ceiling:.1%}",
    "What each institution is counted on for": "对各机构的预期",
    "modalities": "模态",
    "borrowers (public)": "借款人(公开数)",
    "messages at most": "消息至多",
    "bytes each": "每条字节",
    "Epsilon of the sum / if secure aggregation fails and a message is read alone": (
        "隐私预算 ε:总和 / 若安全聚合失效、消息被单独读取"
    ),
    "Epsilon of all messages of an institution together": "隐私预算 ε:一家机构的全部消息合计",
    "noise": "噪声",
    "one borrower": "单个借款人",
    "ε training": "ε 训练",
    "ε held out": "ε 留出",
    "ε known to {members}": "ε {members} 家知悉",
    "   noise: deviation per training number, in grid steps · one borrower: the most that one moves them": (
        "   噪声:训练时每个数的标准差,以网格步计 · 单个借款人:一人至多使这些数改变的幅度"
    ),
    "epsilon {epsilon:g} is above {limit:g}": "epsilon {epsilon:g} 高于 {limit:g}",
    "delta {delta:g} is above 1/(10 n) = {advised:.1e} of {institution}": (
        "delta {delta:g} 高于 {institution} 规模对应的 1/(10 n) = {advised:.1e}"
    ),
    "the noise is shared, but no secure sum hides a message: institutions refuse this plan (FC-4008)": (
        "噪声由各机构分担,但没有安全聚合隐藏单条消息:各机构会拒绝此计划(FC-4008)"
    ),
    "nothing is sent or changed: this is what {institution} would do under plan {digest} ({plan})": (
        "未发送也未更改任何内容:以下为 {institution} 在计划 {digest}({plan})下的行为"
    ),
    "What leaves {institution}": "{institution} 对外发出的内容",
    "message": "消息",
    "at most": "至多",
    "numbers": "数的个数",
    "bytes in all": "字节合计",
    "together": "合计",
    "instead of any of them: a refusal, one error code": "替代以上任一消息:拒绝,仅一个错误码",
    "histogram of categories by outcome, before round 1": "第 1 轮之前:按结果分的类别直方图",
    "counts of held-out borrowers by score and outcome": "留出借款人按评分和结果的计数",
    "sums of residuals and curvatures in tree leaves": "树叶内残差与曲率之和",
    "change of the weights after local training": "本地训练后的权重变化",
    "sums of clipped gradients": "裁剪后梯度之和",
    "   every message also carries a digest of its request and one of the privacy ledger's last entry": (
        "   每条消息还带有所答请求的摘要和隐私账本最后一条的摘要"
    ),
    "   each is signed, sealed to the coordinator and equally long; the relay sees its length and time": (
        "   均经签名、密封给协调方且长度相同;中继只看到长度和时间"
    ),
    "   the coordinator opens each: without a secure sum, only this site's share of noise protects it": (
        "   协调方会打开每条消息:没有安全聚合时,仅有本机构的噪声份额保护它"
    ),
    "   the coordinator opens each and sees its numbers, every one with its full noise": (
        "   协调方会打开每条消息并看到其中的数,每个数都带有完整噪声"
    ),
    "   the coordinator opens each and sees its numbers WITHOUT protecting noise": (
        "   协调方会打开每条消息并看到其中的数,没有保护性噪声"
    ),
    "   never leave: rows, identifiers, scores of a borrower, exact counts, losses, error texts, keys": (
        "   绝不离开:数据行、标识、单个借款人的评分、精确计数、损失值、错误文本、密钥"
    ),
    "What it costs, by this site's ledger: epsilon of the sum / if a message is read alone": (
        "代价(按本机构账本):总和的 ε / 若消息被单独读取"
    ),
    "What it costs, by this site's ledger: epsilon": "代价(按本机构账本):隐私预算 ε",
    "now": "现在",
    "after the plan": "计划之后",
    "with repetitions": "含重试",
    "found at most": "至多识别率",
    "   counted at the ledger's delta {delta:g}; the plan states its epsilon at {planned:g}": (
        "   按账本的 delta {delta:g} 计;计划按 {planned:g} 声明其 epsilon"
    ),
    "   cannot be undone: what has left is not called back; no epsilon is refunded if a round fails;": (
        "   不可撤销:已发出的内容无法收回;即使某轮失败,epsilon 也不退还;"
    ),
    "                     an approval serves one run of exactly this plan": (
        "             一次批准仅用于此计划的一次运行"
    ),
    "every request would be refused ({code}): {reason}": "所有请求都会被拒绝({code}):{reason}",
    "the noise is shared, but no secure sum hides a message; this institution's policy accepts that": (
        "噪声由各机构分担,但没有安全聚合隐藏单条消息;本机构的政策接受这一点"
    ),
    (
        "a run has used this plan already: {charged} of its releases are counted as spent, and a second run of it is "
        "refused"
    ): "已有运行使用过此计划:其 {charged} 次发布已计为已用,再次运行会被拒绝",
    "{step} would be refused (FC-4101): epsilon of {partition} would be {would_be:.3f}, above {cap:.3f}": (
        "{step}会被拒绝(FC-4101):{partition}部分的 epsilon 将为 {would_be:.3f},高于 {cap:.3f}"
    ),
    "the histogram before round 1": "第 1 轮之前的直方图",
    "the evaluation": "评估",
    "round {round}": "第 {round} 轮",
    "{partition}: only {fitting} of at most {releases} releases fit under the cap; more would be refused": (
        "{partition}:至多 {releases} 次发布中仅 {fitting} 次在上限之内;更多的会被拒绝"
    ),
    "all of it stays within this institution's caps and policy": "全部在本机构的上限和政策之内",
    "               privacy-loss distributions (no filter, for reports): epsilon {pld:.4f}": (
        "               隐私损失分布(仅供报告,不作为过滤器):epsilon {pld:.4f}"
    ),
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
    "idle": "空闲",
    "running": "进行中",
    "finished": "已完成",
    "failed": "已失败",
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
