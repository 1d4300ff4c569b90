"""The Chinese of ``lab simulate`` and ``lab describe``, a part of the catalogue in ``texts``."""

from __future__ import annotations

from typing import Final

SIMULATE_ZH: Final[dict[str, str]] = {
    "would write {count:,} accepted contracts of {members} lenders and funds in {blocks} blocks to {path}": (
        "将写入 {members} 家放款与担保机构的 {count:,} 笔已批准合同,共 {blocks} 块,至 {path}"
    ),
    "{institution}: {contracts:,} contracts, {rows:,} rows in {tables} tables": (
        "{institution}:{contracts:,} 笔合同,{tables} 张表共 {rows:,} 行"
    ),
    "simulated: nobody and nothing in it is real. The oracle is for the researcher, never for an institution": (
        "模拟数据:其中没有任何真实的人或物。真值仅供研究者使用,不得提供给机构"
    ),
    "block {number} of {blocks}": "第 {number} 块,共 {blocks} 块",
    "{tables} tables are what their manifests say": "{tables} 张表与清单一致",
    "the targets are those of the reference world; {scenario} moves some on purpose": (
        "目标取自基准世界;{scenario} 有意改变其中一些"
    ),
    "inside": "在目标内",
    "within noise": "在误差内",
    "outside": "超出目标",
    "figure": "指标",
    "where": "范围",
    "verdict": "判定",
    "target": "目标",
    "realised": "实现值",
    "standard error": "标准误",
    "What the simulated world should do, and what it did": "模拟世界的目标与实现",
    "{inside} inside, {noise} within noise, {outside} outside": (
        "{inside} 项在目标内,{noise} 项在误差内,{outside} 项超出"
    ),
}
