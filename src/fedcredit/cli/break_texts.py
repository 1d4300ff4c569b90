"""The Chinese of ``break_words`` and ``break_view``, a part of the catalogue in ``texts``."""

from __future__ import annotations

from typing import Final

BREAK_ZH: Final[dict[str, str]] = {
    "fedcredit {version} demo --break {idea} · {data} · {model} · {institutions} institutions, in this process": (
        "fedcredit {version} 演示 --break {idea} · {data} · {model} · {institutions} 家机构,在本进程内"
    ),
    "What happened": "经过",
    "What the audit logs say of it": "审计日志中的记录",
    "What was checked": "检查结果",
    "log": "日志",
    "entry": "条目",
    "event": "事件",
    "purpose/round/attempt": "用途/轮次/尝试",
    "who and what": "对象与内容",
    "coordinator": "协调方",
    "relay": "中继",
    "The defence held: {held} of {checks} checks, {seconds:.1f} s": (
        "防御成立:{checks} 项检查中 {held} 项通过,{seconds:.1f} 秒"
    ),
    "The defence did NOT hold: {held} of {checks} checks, {seconds:.1f} s": (
        "防御未成立:{checks} 项检查中仅 {held} 项通过,{seconds:.1f} 秒"
    ),
    # what the attacker does, or what fails
    "The relay sends again what it has carried: a request of this round, an answer and shares of the last one.": (
        "中继重复发送其传送过的内容:本轮的请求,以及上一轮的应答和份额。"
    ),
    (
        "A member sends what no honest program sends: a bit flipped after signing, numbers beyond the ring, false "
        "shares."
    ): ("某成员发送诚实程序不会发送的内容:签名后翻转一位、超出环的数、虚假份额。"),
    "Relay and coordinator keep every message, and look in them for the numbers of one member.": (
        "中继和协调方保存所有消息,并在其中寻找某一成员的数值。"
    ),
    "The coordinator shows members different weights, different selections and different logs, all of them signed.": (
        "协调方向不同成员出示不同的权重、不同的参与名单和不同的日志,且全部签名。"
    ),
    "Members disappear before their upload, after it, and when their shares are asked for.": (
        "成员在上传之前、上传之后以及被索取份额时失联。"
    ),
    "The coordinator is killed before it asks for shares, a member's node after its upload; both go on from disk.": (
        "协调方在索取份额前被强制终止,某成员的节点在上传后被强制终止;两者均从磁盘继续。"
    ),
    # what somebody does
    "refuses": "拒绝",
    "ANSWERS, as if it were a true message": "竟然应答,如同真实消息",
    "TAKES it, as if it were a true answer": "竟然接受,如同真实应答",
    "opens the sum of round {round} over {members} members": "打开第 {round} 轮 {members} 个成员的总和",
    "stops, nothing was opened:": "停止,未打开任何内容:",
    "is resumed after round {round} and tries again": "在第 {round} 轮之后恢复并重试",
    "answers with the same {count:,} bytes as before": "以与之前相同的 {count:,} 字节应答",
    "is back; asked again for its upload, it gives the same {count:,} bytes from its disk": (
        "已恢复;再次被要求上传时,从磁盘给出相同的 {count:,} 字节"
    ),
    "gives OTHER bytes than before": "给出与之前不同的字节",
    "hands over the last round's upload of {institution} as that of round {round}": (
        "将 {institution} 上一轮的上传当作第 {round} 轮的上传交付"
    ),
    "hands over the last round's shares of {institution} as those of round {round}": (
        "将 {institution} 上一轮的份额当作第 {round} 轮的份额交付"
    ),
    "repeats the upload request of round {round}": "重复第 {round} 轮的上传请求",
    "repeats the request for shares of round {round}": "重复第 {round} 轮的份额请求",
    "answers the true upload request of round {round}": "应答第 {round} 轮真实的上传请求",
    "repeats that upload request of round {round} at once": "立即重复第 {round} 轮的该上传请求",
    "hands over the upload of round {round} twice": "将第 {round} 轮的上传交付两次",
    "repeats the upload request of round {round}, which is over by now": "重复已经结束的第 {round} 轮的上传请求",
    "flips a bit in the sealed upload of {institution}, round {round}": (
        "在 {institution} 的密封上传中翻转一位,第 {round} 轮"
    ),
    "flips a bit of its masked numbers after it has signed them, round {round}": (
        "签名之后翻转其掩码数值中的一位,第 {round} 轮"
    ),
    "multiplies its numbers a thousand times beyond the ring, round {round}": (
        "将其数值放大到环之外一千倍,第 {round} 轮"
    ),
    "has no lanes for them": "没有可容纳它们的通道",
    "writes NaN into a message": "在消息中写入 NaN",
    "has no bytes for it: messages hold no floating-point numbers, lanes are integers": (
        "无法编码:消息中没有浮点数,通道只有整数"
    ),
    "sends them in lanes of 64 bits, well signed, round {round}": "以 64 位通道发送并正确签名,第 {round} 轮",
    "reveals {shares} false shares, well signed, round {round}": "给出 {shares} 个虚假份额并正确签名,第 {round} 轮",
    "finds them out by their commitments and blames {institution}": "由承诺值发现,并指明责任方 {institution}",
    "cannot see a lie inside the ring: masked numbers have no size. Bounds and votes limit it, not this protocol": (
        "无法识别环内的谎报:掩码后的数值没有大小。限制它的是上界和表决,而非本协议"
    ),
    "keeps all {messages} sealed messages, {octets:,} bytes": "保存全部 {messages} 条密封消息,共 {octets:,} 字节",
    "opens every message that it can open, and reads the upload of {institution} as numbers": (
        "打开其所能打开的每条消息,并将 {institution} 的上传当作数值读取"
    ),
    "finds {count} pieces of the true numbers of {institution}": "找到 {institution} 真实数值的片段 {count} 处",
    "takes off the mask that the revealed shares open, and reads {institution} again": (
        "去除份额所能打开的掩码,再次读取 {institution}"
    ),
    "does the same with a run whose plan says aggregation = open": "对计划中 aggregation = open 的运行做同样的事",
    (
        "reads {equal} of {lanes} numbers; correlation {correlation:+.2f}; chi-square {chi_square:,.1f} "
        "(uniform: about 15), p = {p:.2g}"
    ): (
        "读出 {lanes} 个数值中的 {equal} 个;相关系数 {correlation:+.2f};卡方 {chi_square:,.1f}"
        "(均匀时约为 15),p = {p:.2g}"
    ),
    "sends {institution} other weights under the signed manifest of round {round}": (
        "在第 {round} 轮已签名的清单下向 {institution} 发送其他权重"
    ),
    "signs a manifest of round {round} with these weights for {institution} alone": (
        "仅为 {institution} 签署含这些权重的第 {round} 轮清单"
    ),
    "shows {first} the selection of all, and {second} one without {institution}": (
        "向 {first} 出示全体名单,向 {second} 出示不含 {institution} 的名单"
    ),
    "signs the one that it was shown": "签署了向其出示的名单",
    "asks {institution} to agree to the other selection, too": "要求 {institution} 同时同意另一名单",
    "asks {institution} for shares, with the agreements of its half": "凭其一半成员的同意向 {institution} 索取份额",
    "asks {institution} again, with the agreements of both halves": "凭两半成员的同意再次向 {institution} 索取",
    "asks {institution} for shares of the selection that it has not seen": "向 {institution} 索取其未见过的名单的份额",
    "forges the newest entry of its log for {institution} alone, so that it released other weights, round {round}": (
        "仅为 {institution} 伪造其日志的最新条目,使之发布了其他权重,第 {round} 轮"
    ),
    "uploads under that manifest: nothing that it has cosigned so far contradicts the forged log": (
        "在该清单下上传:其已联署的内容与伪造的日志尚无矛盾"
    ),
    "adds that upload of {institution} to the others": "将 {institution} 的该上传与其他上传相加",
    "cannot: it is bound to another manifest, and so are its masks": "无法相加:它及其掩码均绑定于另一清单",
    "asks {institution} to agree to a selection of itself alone": "要求 {institution} 同意仅含其自身的名单",
    "shows {institution} the true log again": "再次向 {institution} 出示真实日志",
    "cannot be reached before the upload, round {round}, attempt {attempt}": (
        "上传之前失联,第 {round} 轮第 {attempt} 次尝试"
    ),
    "is gone after its upload, round {round}": "上传之后失联,第 {round} 轮",
    "cannot be reached for shares, round {round}, attempt {attempt}": (
        "被索取份额时失联,第 {round} 轮第 {attempt} 次尝试"
    ),
    "is killed in round {round}, attempt {attempt}: the selection is signed, no share was asked for": (
        "在第 {round} 轮第 {attempt} 次尝试中被强制终止:名单已签署,尚未索取份额"
    ),
    "is opened from its disk: round {round} is released, and the one after begins again": (
        "从磁盘重新打开:第 {round} 轮已发布,下一轮重新开始"
    ),
    "its node is killed after the upload of round {round}, attempt {attempt}": (
        "其节点在第 {round} 轮第 {attempt} 次尝试的上传之后被强制终止"
    ),
    # what was checked
    "{institution} answers a repeated request with the same bytes": "{institution} 以相同的字节应答重复的请求",
    "every old request is refused: {codes}": "所有旧请求均被拒绝:{codes}",
    "every old answer is refused: {codes}": "所有旧应答均被拒绝:{codes}",
    "repetitions cost nothing: {before} charges before them, {after} after": (
        "重复不消耗预算:此前 {before} 次计费,此后 {after} 次"
    ),
    "every member is charged once per release: {charges} charges in all": "每次发布各成员只计费一次:共 {charges} 次",
    "the sum holds each of {members} members once, to the last unit": "总和中 {members} 个成员各计一次,分毫不差",
    "round {round}: the sum over {members} members is exact in all {lanes} lanes": (
        "第 {round} 轮:{members} 个成员的总和在全部 {lanes} 个通道上精确"
    ),
    "{count} of 2 poisons cannot be written at all: numbers beyond the ring, and NaN": (
        "2 种投毒中有 {count} 种根本无法写出:超出环的数和 NaN"
    ),
    "both changed uploads of {institution} are refused: {codes}": "{institution} 的两次篡改上传均被拒绝:{codes}",
    "the upload that was changed on the way is refused ({codes}), the true one counts": (
        "途中被改动的上传被拒绝({codes}),真实的上传计入"
    ),
    "the log blames {institution} and nobody else (blamed: {blamed})": (
        "日志仅指明 {institution} 为责任方(记录:{blamed})"
    ),
    "{count} pieces of the numbers are in {messages} messages, in what was opened, and in the coordinator's folder": (
        "在 {messages} 条消息、已打开的内容和协调方文件夹中共有 {count} 处数值片段"
    ),
    "of the upload, {equal} of {lanes} numbers can be read": "上传的 {lanes} 个数值中可读出 {equal} 个",
    "the upload is uniform: chi-square {chi_square:,.1f}, p = {p:.2g}": (
        "上传呈均匀分布:卡方 {chi_square:,.1f},p = {p:.2g}"
    ),
    "without its own mask, {equal} of {lanes} numbers can be read": (
        "去除其自身掩码后,{lanes} 个数值中可读出 {equal} 个"
    ),
    "without its own mask it is uniform, too: chi-square {chi_square:,.1f}, p = {p:.2g}": (
        "去除其自身掩码后仍呈均匀分布:卡方 {chi_square:,.1f},p = {p:.2g}"
    ),
    "the attack works: with open aggregation it reads {equal} of {lanes} numbers": (
        "攻击本身有效:在开放聚合下读出 {lanes} 个数值中的 {equal} 个"
    ),
    "every lie is refused: {codes}": "所有谎报均被拒绝:{codes}",
    "lies about weights cost nothing: charges of {institution} are {before} before them, {after} after": (
        "权重谎报不消耗预算:{institution} 的计费次数此前 {before},此后 {after}"
    ),
    "{shares} shares left while the members were divided": "成员意见分裂期间发出份额 {shares} 次",
    "the upload under the forged log cannot be added, and {equal} of its {lanes} numbers can be read": (
        "伪造日志下的上传无法相加,其 {lanes} 个数值中可读出 {equal} 个"
    ),
    "{count} attempts ended without a sum, and nothing of them was opened": (
        "{count} 次尝试未得总和即结束,且未打开其中任何内容"
    ),
    "all {attempts} attempts began with the same weights: a lost attempt changes nothing": (
        "全部 {attempts} 次尝试均从相同权重开始:失败的尝试不改变任何内容"
    ),
    (
        "every attempt is charged: {institution} had {before} charges (ε {epsilon_before:.3f}), now {after} "
        "(ε {epsilon_after:.3f})"
    ): ("每次尝试均计费:{institution} 原有 {before} 次(ε {epsilon_before:.3f}),现有 {after} 次(ε {epsilon_after:.3f})"),
    "{institution}, absent from one attempt, has {charges} charges for the other ones": (
        "{institution} 缺席一次尝试,其余尝试计费 {charges} 次"
    ),
    "the run goes on and releases round {round}": "运行继续,并发布第 {round} 轮",
    "the log goes on where the kill left it: {before} entries then, {after} now, none changed": (
        "日志从终止处继续:当时 {before} 条,现有 {after} 条,无一改动"
    ),
    "the attempt that the kill cut off is never opened: {shares} shares left": (
        "被终止的尝试从未打开:发出份额 {shares} 次"
    ),
    "no mask is used twice: those of both attempts agree in {equal} of {lanes} lanes": (
        "掩码未重复使用:两次尝试的掩码在 {lanes} 个通道中有 {equal} 个相同"
    ),
    "the attempts used the keys of {count} different epochs": "各次尝试使用了 {count} 个不同密钥周期的密钥",
    "every upload is charged once: {charges} charges in all": "每次上传只计费一次:共 {charges} 次",
}
