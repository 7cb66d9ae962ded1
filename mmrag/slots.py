"""The parts of a question that another can take the place of: years, quarters, places, names, measures …

Plain lists and patterns for English and Chinese. What is not surely of a kind is left out: an exchange of things that
are not alike asks for something that nobody meant. Knows no conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmrag.questions import places
from mmrag.text import STOPWORDS

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_CURRENCIES = (
    "euros?|EUR|(?:US )?dollars?|USD|pounds?|GBP|yuan|renminbi|RMB|CNY|yen|JPY|Swiss francs|CHF|kroner|kronor|rupees"
)
_MEASURE_KINDS = "operating|net|gross|total|adjusted|annual|average|pre-tax|free|underlying|recurring|organic"
_MEASURES = (
    "revenues?|sales|turnover|profits?|income|earnings|ebitda|ebit|costs?|expenses?|expenditure|margins?|dividends?|"
    "loss(?:es)?|cash flow|assets|liabilities|debt|equity|share price|headcount|investments?|salary|rent|deposit"
)
_CJK_MEASURES = (
    "营业总?收入|营业利润|营业总?成本|净利润|毛利润|利润总额|利润|收入|成本|毛利率|净利率|总资产|净资产|资产总额|总负债|负债|"
    "经营现金流|现金流|研发费用|销售费用|管理费用|财务费用|费用|总投资|投资额|装机容量|发电量|产量|销量|销售额|营业额|员工人数|"
    "员工总数|人数|股息|每股收益|市值"
)
_REGIONS = """
africa; antarctica; asia; asia pacific; australia; central america; eastern europe; europe; latin america; middle
east; north america; northern europe; oceania; scandinavia; south america; southeast asia; southern europe; western
europe; argentina; austria; bangladesh; belgium; brazil; britain; bulgaria; canada; chile; china; colombia; croatia;
denmark; egypt; england; estonia; finland; france; germany; greece; hong kong; hungary; iceland; india; indonesia;
iran; ireland; israel; italy; japan; kenya; latvia; lithuania; luxembourg; malaysia; mexico; morocco; netherlands; new
zealand; nigeria; norway; pakistan; peru; philippines; poland; portugal; romania; russia; saudi arabia; scotland;
serbia; singapore; slovakia; slovenia; south africa; south korea; spain; sweden; switzerland; taiwan; thailand;
turkey; ukraine; united kingdom; united states; vietnam; wales; california; florida; texas; new york; london; paris;
berlin; tokyo; beijing; shanghai; the us; the uk; the usa; the eu; usa; uk; eu
"""
_CJK_REGIONS = """
亚洲 欧洲 非洲 北美洲 南美洲 北美 南美 拉丁美洲 拉美 大洋洲 东南亚 亚太 中东 欧盟 中国 美国 英国 法国
德国 日本 韩国 印度 俄罗斯 巴西 加拿大 澳大利亚 意大利 西班牙 荷兰 瑞士 瑞典 挪威 丹麦 芬兰 波兰 墨西哥
新加坡 马来西亚 泰国 越南 印尼 香港 澳门 台湾 北京 上海 天津 重庆 广东 江苏 浙江 山东 河南 四川 湖北
湖南 福建 安徽 河北 陕西 辽宁 江西 云南 广西 贵州 山西 吉林 黑龙江 甘肃 海南 内蒙古 新疆 宁夏 青海
西藏 深圳 广州 杭州 南京 成都 武汉 境内 境外 国内 国外 海外
"""


def _any(words: str, separator: str | None) -> str:
    listed = sorted({" ".join(word.split()) for word in words.split(separator)} - {""}, key=len, reverse=True)
    return "|".join(map(re.escape, listed))


_ALONE = r"(?<![^\W\u2e80-\u9fff])(?:{})(?![^\W\u2e80-\u9fff])"  # no letter or digit beside it; Chinese has no gaps

_RELATIVE_YEAR = (
    r"(?:the )?(?:previous|following|last|this|next|prior) year|the year (?:before|after)(?: that)?|"
    r"a year (?:earlier|later|before)|去年|前年|今年|明年|后年|上一?年度?|下一?年度?|本年度?"
)
_PATTERNS = {
    "period": re.compile(
        _ALONE.format(r"Q[1-4]|H[12]|(?:the )?(?:(?:first|second|third|fourth) (?:quarter|half)|(?:full|whole) year)")
        + "|第?[一二三四1-4]季度|[上下]半年|全年",
        re.IGNORECASE,
    ),
    "year": re.compile(
        r"(?<![\d.,$€£])(?:FY ?|fiscal )?(?:19|20)\d\d(?:[/–-]\d\d(?:\d\d)?)?(?:年度?)?(?!\d|[.,]\d|%)|"
        + _RELATIVE_YEAR,
        re.IGNORECASE,
    ),
    "month": re.compile(_ALONE.format(_MONTHS) + "|(?:1[0-2]|[1-9]|十[一二]|[一二三四五六七八九十])月份?"),
    "currency": re.compile(_ALONE.format(_CURRENCIES) + "|人民币|美元|欧元|英镑|日元|港元", re.IGNORECASE),
    "measure": re.compile(
        _ALONE.format(rf"(?:(?:{_MEASURE_KINDS}) )*(?:{_MEASURES})") + f"|{_CJK_MEASURES}", re.IGNORECASE
    ),
    "place": re.compile(_ALONE.format(_any(_REGIONS, ";")) + f"|{_any(_CJK_REGIONS, None)}", re.IGNORECASE),
    "number": re.compile(
        r"(?<![\w.,])\d+(?:[.,]\d+)*(?:\s?[-–]\s?\d+(?:[.,]\d+)*)?(?:\s?%| percent)?(?![^\W\u2e80-\u9fff])"
    ),
}
TIMES = ("year", "period", "month")
_NAME = re.compile(r"(?<![^\W\u2e80-\u9fff])[A-Z][\w&.-]*(?:'[A-Z]\w+)?(?: (?:&|(?:of |van |de )?[A-Z][\w&.-]*))*")
_LEAD = re.compile(r"\b(in|for|at|from|on|of|by|during|to|with|than|since|until|as of)\s+(?:the\s+)?$", re.IGNORECASE)
_EARLIER = re.compile(r"previous|prior|before|earlier|上一?年")
_LATER = re.compile(r"following|next|after|later|下一?年")
_NO_PREPOSITION = re.compile(r"(?:last|this|next) year", re.IGNORECASE)
_ANY_RELATIVE_YEAR = re.compile(_RELATIVE_YEAR, re.IGNORECASE)


class Slot(NamedTuple):
    """A part of a text: its kind, where it stands, and the preposition before it."""

    kind: str
    start: int
    end: int
    text: str
    lead: str


def slots(text: str, *, begins: bool = True) -> list[Slot]:
    """In the text's order, none in another; `begins`: its first word has its capital from the sentence."""
    found = [(kind, _with_article(text, start), end) for kind, start, end in places(text)]
    for kind, pattern in _PATTERNS.items():
        found += [(kind, *match.span()) for match in pattern.finditer(text) if _is_free(match.span(), found)]
    found += [name for name in _names(text, begins) if _is_free(name[1:], found)]
    return [
        Slot(kind, start, end, text[start:end], _lead(text, start)) for kind, start, end in sorted(found, key=_start)
    ]


def _with_article(text: str, start: int) -> int:
    """`the last page`: its article comes along."""
    return start - 4 if text[max(0, start - 4) : start].lower() == "the " else start


def _start(found: tuple[str, int, int]) -> int:
    return found[1]


def _is_free(span: tuple[int, int], found: Sequence[tuple[str, int, int]]) -> bool:
    return all(span[1] <= start or end <= span[0] for _, start, end in found)


def _lead(text: str, start: int) -> str:
    match = _LEAD.search(text, 0, start)
    return match[1].lower() if match else ""


def _names(text: str, begins: bool) -> Iterator[tuple[str, int, int]]:
    """Runs of words with capitals: acronyms, and other names."""
    if sum(map(str.isupper, text)) > sum(map(str.islower, text)) and " " in text.strip():
        return  # all in capitals: they tell nothing
    for match in _NAME.finditer(text):
        start, end = match.span()
        end -= len(match[0]) - len(match[0].rstrip(".-"))
        first = match[0].split()[0]
        starts_sentence = not text[:start].strip() or text[:start].rstrip()[-1] in "?.!？。！"
        if first.lower() in STOPWORDS or (starts_sentence and begins and not first.isupper()):
            start += len(first) + 1  # `Did Anna Kern`
        if start < end and (name := text[start:end]) != "I":
            is_place = _lead(text, start) == "in" and not re.match("['’]", text[end:])
            kind = "place" if is_place else "acronym" if name.isupper() and " " not in name else "name"
            yield kind, start, end


def exchange(text: str, wanted: Sequence[Slot]) -> str | None:
    """The text with these in the places of those of their kind; None where one has no place, or could have several.

    A time or what comes with a preposition is added where the text has none of its kind.
    """
    there = slots(text)
    changes: list[tuple[Slot, Slot]] = []
    added: list[Slot] = []
    for kind in dict.fromkeys(slot.kind for slot in wanted):
        new, old = ([slot for slot in of if slot.kind == kind] for of in (wanted, there))
        if len(new) == 1 < len(old) and kind not in TIMES and all(slot.lead for slot in old):
            old = [slot for slot in old if slot.lead == new[0].lead]
        if len(new) == len(old):
            changes += zip(old, new, strict=True)
        elif not old and (kind in TIMES or (new[0].lead and kind in ("place", "currency", "page", "figure", "table"))):
            added += new
        else:
            return None
    for old_slot, new_slot in sorted(changes, key=lambda change: -change[0].start):
        text = _put(text, old_slot, new_slot)
    for slot in added:
        text = _add(text, slot)
    return text


def _put(text: str, old: Slot, new: Slot) -> str:
    value, start = _value(new, old), old.start
    if _NO_PREPOSITION.fullmatch(value) and old.lead:
        start = text.lower().rindex(old.lead, 0, start)
    elif old.kind == "year" and not old.lead and _NO_PREPOSITION.fullmatch(old.text) and value[0].isdigit():
        value = f"in {value}"
    return text[:start] + value + text[old.end :]


def _value(new: Slot, old: Slot) -> str:
    """The year before or after the old one is reckoned, where that is a plain year."""
    if new.kind != "year":
        return new.text
    plain = re.fullmatch(r"((?:FY ?|fiscal )?)(\d{4})(年?度?)", old.text, re.IGNORECASE)
    step = -1 if _EARLIER.search(new.text) else 1 if _LATER.search(new.text) else 0
    if plain and step and _ANY_RELATIVE_YEAR.fullmatch(new.text):
        return f"{plain[1]}{int(plain[2]) + step}{plain[3]}"
    return new.text + "年" if old.text.endswith("年") and new.text.isdigit() else new.text


def _add(text: str, slot: Slot) -> str:
    if re.search(r"[\u4e00-\u9fff]", text):
        is_time = slot.kind in TIMES
        return slot.text + ("" if is_time else "的") + text
    bare = text.rstrip()
    words = bare.rstrip("?.! ")
    lead = slot.lead or ("" if _NO_PREPOSITION.fullmatch(slot.text) else "in")
    return " ".join(filter(None, (words, lead, slot.text))) + (bare[len(words) :].strip() or "?")
