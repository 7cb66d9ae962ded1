"""Text of unknown encoding, from its bytes. Knows nothing of files."""

from __future__ import annotations

import codecs
import re

from mmrag.errors import UnreadableFile

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_:.-]{2,40})""")
_DECLARED_WITHIN = 2048
# As browsers have it: what is declared by the name of a smaller set is often written in the larger.
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "ascii": "cp1252", "big5": "big5hkscs"}
_SEVEN_BITS = ("iso2022_", "hz")
# What web pages are written in: Python knows more, and not all of that is text.
_KNOWN = ("big5", "cp", "euc_", "gb", "iso8859-", "johab", "koi8-", "mac-", "shift_jis", "tis-", *_SEVEN_BITS)
_HIGH = re.compile(rb"[\x80-\xff]")
_GB2312 = re.compile(rb"[\xa1-\xf7][\xa1-\xfe]")
# Of the bytes above 127, how many stand in pairs of GB 2312: in Western text, an accented letter is mostly alone.
_PAIRED = 0.8
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
# Of the characters, how many may be such as no text has: a log that was cut off by a crash has some.
_BINARY = 0.02
_BREAKS = re.compile(r"\r\n?|[\f\v\x85\u2028\u2029]")


def decoded(content: bytes, *, is_markup: bool = False) -> str:
    """The text, its lines ended by \\n, without control characters; UnreadableFile where there is none.

    By its mark, then as UTF-8, which is so strict that what can be read as such is such, then, for HTML, by what it
    declares, then as GB 18030, then Western.
    """
    text = _text(content, is_markup)
    if len(_CONTROL.findall(text)) > _BINARY * len(text):
        raise UnreadableFile("The file holds no text, whatever its name says: check what it is.")
    return _CONTROL.sub("", _BREAKS.sub("\n", text)).replace("\x1b", "")


def _text(content: bytes, is_markup: bool) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    declared = _declared(content) if is_markup else ""
    tried = ["utf-8", declared, "gb18030" if _is_paired(content) else ""]
    if declared.startswith(_SEVEN_BITS):
        tried.insert(0, declared)
    for encoding in filter(None, tried):
        try:
            return content.decode(encoding)
        except ValueError:
            continue
    return content.decode("cp1252", errors="replace")


def _declared(content: bytes) -> str:
    """The name of an encoding that web pages are written in, or nothing."""
    found = _DECLARED.search(content[:_DECLARED_WITHIN])
    try:
        name = codecs.lookup(found[1].decode()).name if found else ""
    except LookupError:
        name = ""
    return _LARGER.get(name, name) if name in _LARGER or name.startswith(_KNOWN) else ""


def _is_paired(content: bytes) -> bool:
    return 2 * len(_GB2312.findall(content)) > _PAIRED * len(_HIGH.findall(content))
