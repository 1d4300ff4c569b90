"""What ``fedcredit audit`` says, in Chinese; ``texts`` has the rules and every other command."""

from __future__ import annotations

from typing import Final

AUDIT_ZH: Final[dict[str, str]] = {
    (
        "{count} times {institution} gave shares and the log has no sum of them: a failure, or a sum that was "
        "thrown away; ask the coordinator"
    ): "{institution} 有 {count} 次提供了份额而日志中没有相应总和:可能是故障,也可能是总和被丢弃;请询问协调方",
    (
        "the log lacks the answer of {institution} to the closing, and with it any vote: lost on the way, or "
        "left out; ask the coordinator"
    ): "日志中没有 {institution} 对收尾请求的答复及其投票:途中丢失,或被遗漏;请询问协调方",
    "the run is not closed: later entries will need a stamp of their own": "该运行尚未收尾:之后的条目需另行加盖时间戳",
    "wrote {path}: a query for the log of {size} entries": "已写入 {path}:针对 {size} 条日志的时间戳请求",
    "   send it to the authority that the consortium names, and bring back the reply:": (
        "   请发送给联盟指定的时间戳机构,并取回其应答:"
    ),
    "   such as: curl -H 'Content-Type: application/timestamp-query' --data-binary @{query} -o reply.tsr URL": (
        "   例如:curl -H 'Content-Type: application/timestamp-query' --data-binary @{query} -o reply.tsr URL"
    ),
    "the first {size} entries existed on {time}, says the authority under {root}": (
        "前 {size} 条在 {time} 已存在,由 {root} 名下的时间戳机构证明"
    ),
    "time stamps lie in {path}; with --authority they are checked": "{path} 中有时间戳;加 --authority 可核验",
    "audit log: {entries} entries, chain unbroken, head {head}": "审计日志:{entries} 条,哈希链完整,日志头 {head}",
    "{released} released models match their log lines": "{released} 个已发布模型与日志记录一致",
    "opened for plan {plan} with the keys of {members} members and the coordinator": (
        "为计划 {plan} 开启,使用 {members} 个成员与协调方的密钥"
    ),
    "{lines} lines of the readable copies say what the log says": "可读副本的 {lines} 行与日志一致",
    (
        "{sums} sums added up again from {uploads} uploads, {agreements} agreements and {reveals} reveals, "
        "each signed by its member"
    ): "由 {uploads} 份上传、{agreements} 份同意和 {reveals} 份份额重新求得 {sums} 个总和,均由各成员签名",
    "{count} transcripts hold that no entry names: the coordinator stopped before it recorded them": (
        "{count} 份记录文件成立但日志未提及:协调方在记录之前中断"
    ),
    "open aggregation keeps no answers: the sums, and what follows from them, are the coordinator's word": (
        "开放聚合不保存应答:总和及由其得出的内容仅凭协调方所言"
    ),
    "{models} models follow bit for bit from plan and sums": "{models} 个模型由计划和总和逐位推出",
    "   not kept, so not checked: sealed secrets of pairs, the manifest of a closing, bytes sent": (
        "   未保存,故未检查:成员对之间的密封秘密、收尾的清单、字节数"
    ),
    "{attempts} attempts without a sum, or without somebody's answer: what was asked is signed and as the log says": (
        "{attempts} 次未得总和或未计入某成员应答的尝试:其请求均有签名,且与日志一致"
    ),
    "{blames} times a member is blamed, each time by what members signed": ("{blames} 次追责,均由成员所签内容推出"),
    (
        "{count} attempts without a sum, or without somebody's answer, were not kept by that version of the "
        "coordinator: what they asked, and whom they blame, is its word"
    ): "{count} 次未得总和或未计入某成员应答的尝试,当时的协调方版本未保存:其请求及追责仅凭协调方所言",
    (
        "{count} attempts have no end in the log: the coordinator was cut off, or is of an older version; what "
        "they asked is compared with the members' own logs only (--against)"
    ): "{count} 次尝试在日志中没有结尾:协调方曾中断,或为旧版本;其请求只能与成员自己的日志比对(--against)",
    (
        "{count} requests in the log of {institution} were recorded by an older version, without their radii: "
        "these were not compared"
    ): "{institution} 的日志中有 {count} 次请求由旧版本记录,未含半径:未作比对",
    "{epochs} set-ups of keys, each signed by every member in it": "{epochs} 次密钥建立,均由其中每个成员签名",
    "{figures} figures of the evaluation follow from its counts": "评估的 {figures} 项指标由其计数推出",
    "the run was evaluated, and its figures are not here: nothing was compared": (
        "该运行已评估,但此处没有指标文件:未作比对"
    ),
    "{cosignatures} cosignatures hold; the first {size} entries are final: cosigned by {members}": (
        "{cosignatures} 个联署有效;前 {size} 条已最终确定,联署方:{members}"
    ),
    "   {after} entries lie behind them: the closing of the run, which nobody cosigns": (
        "   其后还有 {after} 条:运行的收尾记录,无人联署"
    ),
    "{after} entries lie behind them; until the run is closed they are the coordinator's word": (
        "其后还有 {after} 条;在运行收尾之前仅凭协调方所言"
    ),
    (
        "releases accepted of a member / paid for by the plan: preparation {prepare}, training {train}, "
        "evaluation {evaluate}, vote {vote}"
    ): "每个成员已采纳的发布次数 / 计划允许次数:准备 {prepare},训练 {train},评估 {evaluate},投票 {vote}",
    "{partition}: epsilon {epsilon} of at most {planned:g} at delta {delta:g}": (
        "{partition}:epsilon {epsilon},至多 {planned:g},delta {delta:g}"
    ),
    "{institution} has cosigned nothing of this run": "{institution} 未联署此运行的任何内容",
    (
        "{institution} cosigned the first {cosigned} entries of this log, and knows its {answered} requests and "
        "{accepted} accepted answers"
    ): "{institution} 已联署此日志的前 {cosigned} 条,且记有其中 {answered} 次请求和 {accepted} 份被采纳的应答",
    "the coordinator's fingerprint is the one that you gave": "协调方指纹与您给出的一致",
    "coordinator": "协调方",
    "Whose keys these are, a person compares by voice": "密钥归属须由人通过电话核对",
    "entry": "条目",
    "event": "事件",
    "who": "谁",
    "what": "内容",
    "{count} members": "{count} 个成员",
    "   {shown} of {entries} entries, chain unbroken": "   显示 {shown} / {entries} 条,哈希链完整",
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
}
