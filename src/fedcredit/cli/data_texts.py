"""What ``node check-data``, ``tokenise`` and the examples of ``node init`` say, in Chinese; ``texts`` has the rules."""

from __future__ import annotations

from typing import Final

DATA_ZH: Final[dict[str, str]] = {
    "table": "表",
    "file": "文件",
    "rows": "行",
    "coverage": "覆盖率",
    "{table}: {count:,} rows are left out, because an earlier row has their key": (
        "{table}:{count:,} 行因前面已有相同的键而略去"
    ),
    "errors": "错误",
    "warnings": "警告",
    "wrote {path} (it stays on this machine)": "已写入 {path}(仅留在本机)",
    "   and {more} more, in the report": "   另有 {more} 项,见报告",
    "{count} warnings accepted": "已接受 {count} 个警告",
    "wrote {path}: {rows:,} rows, tokens in {columns}": "已写入 {path}:{rows:,} 行,{columns} 已替换为令牌",
    "   key {fingerprint}; delete the file with plain identifiers when you are done": (
        "   密钥 {fingerprint};完成后请删除含明文标识的文件"
    ),
    "wrote {path}: give it to the other members by hand, never to the coordinator": (
        "已写入 {path}:请当面交给其他成员,切勿交给协调方"
    ),
    "wrote {path} from {count} contributions (it never leaves)": "已由 {count} 份密钥材料生成 {path}(不得外传)",
    "   fingerprint {fingerprint}   ← all members must read the same": "   指纹 {fingerprint}   ← 各成员读到的必须一致",
    "   edit mapping.toml until it says where your tables lie and what their columns mean": (
        "   请编辑 mapping.toml,写明各表位置与字段含义"
    ),
    "not learnt from: {reasons}": "不用于训练:{reasons}",
    "accepted in node.toml: {codes}": "已在 node.toml 中记录接受:{codes}",
}
