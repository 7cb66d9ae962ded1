"""Words that say the opposite of each other, and words that deny. Plain lists for English and Chinese."""

from __future__ import annotations

import re
from collections import defaultdict

_PAIRS = """
above below; accelerate slow; accept reject; accepted rejected; active inactive; advantage disadvantage; after before;
agree disagree; agreed disagreed; alive dead; all none; allow prohibit; always never; approve reject; approved
rejected; avoid create; avoid seek; beat miss; began ended; begin end; best worst; better worse; bottom top; bought
sold; buy sell; cheap expensive; common rare; complex simple; concave convex; continuous discrete; contracted
expanded; cut raised; decline growth; decrease increase; decreased increased; decreases increases; decreasing
increasing; deep shallow; deficit surplus; different same; difficult easy; discourage encourage; down up; downstream
upstream; dynamic static; earlier later; early late; eased tightened; east west; easy hard; efficient inefficient;
exceed miss; exclude include; excluding including; exclusive inclusive; expand shrink; export import; exports imports;
external internal; failure success; fall rise; falling rising; falls rises; false true; far near; fast slow; faster
slower; fell rose; female male; fewer more; finite infinite; first last; gain loss; gains losses; global local; gross
net; guilty innocent; heavy light; high low; higher lower; highest lowest; illegal legal; improve worsen; improved
worsened; improves worsens; increase reduce; increased reduced; inflow outflow; inside outside; large small; larger
smaller; largest smallest; least most; left right; less more; likely unlikely; linear nonlinear; long short; longer
shorter; lose win; loss profit; lost won; lower raise; lower upper; lowered raised; major minor; majority minority;
maximize minimize; maximum minimum; narrow wide; negative positive; new old; newer older; north south; offline online;
older younger; oppose support; opposed supported; optimal suboptimal; optimistic pessimistic; over under; overvalued
undervalued; poor rich; private public; profitable unprofitable; stable unstable; start stop; started stopped;
strengthen weaken; strong weak; stronger weaker; successful unsuccessful; suitable unsuitable; supervised
unsupervised; with without;
减少 增加; 下降 增长; 上升 下降; 上涨 下跌; 提高 降低; 下降 提升;
扩大 缩小; 亏损 盈利; 流入 流出; 低于 高于; 大于 小于; 多于
少于; 低开 高开; 最低 最高; 最大 最小; 之前 之后; 以前 以后;
以上 以下; 反对 支持; 反对 同意; 否决 通过; 失败 成功; 允许 禁止;
削弱 加强; 买入 卖出; 出口 进口; 国内 国外;
境内 境外; 开始 结束; 低于 超过; 利好 利空
"""
OPPOSITES: dict[str, frozenset[str]] = {}
"""By word, in lower case."""

DENIALS = frozenset(
    """no not n't never none neither nor nobody nothing without cannot hardly unable fail fails failed lack lacks
    lacked""".split()
)
CJK_DENIALS = re.compile(r"不|没有|未|无法|并非|否")


def _read() -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for pair in _PAIRS.replace("\n", " ").split(";"):
        one, other = pair.split()
        found[one].add(other)
        found[other].add(one)
    OPPOSITES.update({word: frozenset(others) for word, others in found.items()})


_read()
