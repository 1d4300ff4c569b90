"""What ``coord plan``, ``node preview`` and ``node approve`` say of a plan, in Chinese; a part of ``texts``."""

from __future__ import annotations

from typing import Final

PLAN_ZH: Final[dict[str, str]] = {
    # coord plan new
    "Members by their keys. Compare by voice: a coordinator that invented one could read more": (
        "以密钥标识的成员:虚构成员的协调方可多读取信息。请与您认识的成员电话核对"
    ),
    "wrote {path} · digest {digest} · {rounds} rounds · {institutions} institutions": (
        "已写入 {path} · 摘要 {digest} · {rounds} 轮 · {institutions} 家机构"
    ),
    "--threshold has no use with --aggregation open: nobody has to agree to open a sum": (
        "--threshold 在 --aggregation open 时没有用处:打开总和无须任何人同意"
    ),
    "Leave one of the two options out.": "请去掉这两个选项之一。",
    "the sum over a single institution hides nothing": "仅含一家机构的总和不隐藏任何内容",
    "Name more members with --borrowers, or say --aggregation open: then its noised messages are read.": (
        "请用 --borrowers 列出更多成员,或指定 --aggregation open:其加噪消息将被直接读取。"
    ),
    "of {members} institutions, how many must agree to open a sum is for you to say": (
        "{members} 家机构中须有几家同意才能打开总和,由您决定"
    ),
    "--threshold {threshold}: {lost} may drop out after their uploads, {colluders} may collude": (
        "--threshold {threshold}:上传之后可失联 {lost} 家,可合谋 {colluders} 家"
    ),
    "No threshold bears so many colluders with this quorum: lower --colluders.": (
        "在此法定应答数下,没有阈值能承受这么多合谋者:请减小 --colluders。"
    ),
    # what a plan states
    "   trains      {model}, {rounds} rounds, quorum {quorum}": "   训练  {model},{rounds} 轮,法定应答数 {quorum}",
    "               nobody trains on what was observed on {day} or later": (
        "               {day} 及以后的观察不用于训练"
    ),
    "   split       {fraction:.0%} of borrowers held out by key {salt}; contract {contract}": (
        "   划分  以密钥 {salt} 留出 {fraction:.0%} 的借款人;数据契约 {contract}"
    ),
    "this plan protects NOBODY": "此计划不保护任何人",
    "this plan can keep its claim: {plan} · digest {digest}": "此计划能够兑现其声明:{plan} · 摘要 {digest}",
    "this plan claims nothing: {plan} · digest {digest}": "此计划不作任何声明:{plan} · 摘要 {digest}",
    "   privacy     epsilon {epsilon:g} at delta {delta:g} per {unit}, {neighbours}; held out {held_out:g}": (
        "   隐私  epsilon {epsilon:g},delta {delta:g},保护单位为{unit}({neighbours});留出部分 {held_out:g}"
    ),
    "   against     whoever sees the sum: {honest} honest shares of noise (quorum {quorum}, colluders {colluders})": (
        "   防范  看到总和的任何人:噪声由 {honest} 个诚实份额构成(法定应答数 {quorum},合谋 {colluders})"
    ),
    "   against     nobody": "   防范  无",
    "   bounds      every institution shortens its sum to its share of the last one": (
        "   界限        每家机构把其总和缩短到上一总和中自己的份额"
    ),
    "   bounds      NONE: one institution can carry the sum": "   界限        无:单家机构即可左右总和",
    "   votes       NONE: the model is released whatever members see on their held-out borrowers": (
        "   投票        无:无论各成员在留出借款人上看到什么,模型都会放行"
    ),
    (
        "   votes       released if more than {colluders} say yes, and more yes than no or unheard; floor AUC {floor:g}"
    ): "   投票        赞成多于 {colluders} 票且多于反对与未到之和时放行;AUC 下限 {floor:g}",
    "               on counts of their own, for {share:.0%} of the held-out budget": (
        "               依据各自的计数,占留出预算的 {share:.0%}"
    ),
    "               on exact counts: a vote tells something of them WITHOUT protecting noise": (
        "               依据精确计数:投票会透露其中信息,没有保护性噪声"
    ),
    "               on the noised counts that they release anyway": "               依据本来就要发布的加噪计数",
    "no bound on updates: one institution can carry the sum": "更新没有界限:单家机构即可左右总和",
    "nobody votes on the model before it is released": "模型放行前无人投票",
    "   sums        OPEN: the coordinator reads every institution's noised message": (
        "   求和  开放:协调方可读取每家机构的加噪消息"
    ),
    "   sums        secure: {threshold} of {institutions} must agree to open one, {colluders} may collude; "
    "{bits}-bit numbers": (
        "   求和  安全聚合:{institutions} 家中须有 {threshold} 家同意才能打开,最多 {colluders} 家合谋;{bits} 位数"
    ),
    "open aggregation: the coordinator reads the noised message of every institution": (
        "开放聚合:协调方可读取每家机构的加噪消息"
    ),
    "   its numbers are masked: the coordinator reads their sum over all members, and no institution's own": (
        "   其数字带掩码:协调方只能读取全体成员的总和,读不到任何一家机构的数字"
    ),
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
    "bytes at most": "字节至多",
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
    "as many": "同长",
    "histogram of categories by outcome, before round 1": "第 1 轮之前:按结果分的类别直方图",
    "counts of held-out borrowers by score and outcome": "留出借款人按评分和结果的计数",
    "sums of residuals and curvatures in tree leaves": "树叶内残差与曲率之和",
    "change of the weights after local training": "本地训练后的权重变化",
    "sums of clipped gradients": "裁剪后梯度之和",
    "   each also holds digests of its request and the ledger's last entry, and a signature on the log": (
        "   每条消息还带有所答请求的摘要、隐私账本最后一条的摘要和对日志的签名"
    ),
    "   each is signed and sealed to the coordinator; the relay sees its length and time": (
        "   均经签名并密封给协调方;中继只看到长度和时间"
    ),
    "   beside them go fresh keys, a signature on whose numbers are in each sum, and shares of masks": (
        "   此外还发出新密钥、对每次求和参与名单的签名和掩码份额"
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
    (
        "a run has used this plan already: {charged} of its releases are counted as spent, and a second run of it is "
        "refused"
    ): "已有运行使用过此计划:其 {charged} 次发布已计为已用,再次运行会被拒绝",
    "every request would be refused ({code}): {reason}": "所有请求都会被拒绝({code}):{reason}",
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
}
