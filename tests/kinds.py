"""Documents of every kind that has no pages of its own, built in code: each says one sentence that no other says."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
from pathlib import Path

import pymupdf
from PIL import Image, ImageDraw, ImageFont

from ingest import office

HEIGHTS = {
    kind: 41 + number
    for number, kind in enumerate(
        "epub mobi fb2 cbz xps svg html md txt docx xlsx pptx odt ods odp doc xls ppt rtf".split()
    )
}
"""In metres, of the lighthouse that each kind's document tells of; the names are those of `NAMES`."""
NAMES = dict(
    zip(
        HEIGHTS,
        "Arkona Barfleur Cordouan Dornbusch Eddystone Fastnet Gatteville Hook Ivalo Jument Kinnaird Lindesnes "
        "Macquarie Neist Ouessant Peggys Quarnero Roker Skagen".split(),
        strict=True,
    )
)
PLAIN = ("epub", "mobi", "fb2", "cbz", "xps", "svg", "html", "md", "txt")
OFFICE = tuple(kind for kind in HEIGHTS if kind not in PLAIN)
_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_OOXML = "http://schemas.openxmlformats.org"


def fact(kind: str) -> str:
    return f"The lighthouse of {NAMES[kind]} is {HEIGHTS[kind]} metres tall."


def build(kind: str, folder: Path) -> Path:
    """A document of this kind in `folder`; those of Microsoft's older programs are made by LibreOffice."""
    path = folder / f"{NAMES[kind].lower()}.{kind}"
    makers = {
        "epub": epub,
        "mobi": mobi,
        "fb2": fb2,
        "cbz": cbz,
        "xps": xps,
        "svg": svg,
        "html": html,
        "md": markdown,
        "txt": lambda text: f"{text}\n\n澜屿灯塔高五十米。\n".encode("gb18030"),
        "docx": docx,
        "xlsx": xlsx,
        "odt": odt,
        "ods": ods,
        "odp": odp,
        "rtf": lambda text: rb"{\rtf1\ansi\b Harbour report\b0\par " + text.encode() + rb"\par}",
    }
    if kind in makers:
        path.write_bytes(makers[kind](fact(kind)))
    else:
        of = {"pptx": "odp", "ppt": "odp", "doc": "odt", "xls": "ods"}[kind]
        draft = path.with_suffix(f".{of}")
        draft.write_bytes(makers[of](fact(kind)))
        _by_libreoffice(draft, kind)
        draft.unlink()
    return path


def _by_libreoffice(path: Path, kind: str) -> None:
    program = office.find_program()
    assert program
    profile = (path.parent.absolute() / "profile").as_uri()
    command = [program, "--headless", f"-env:UserInstallation={profile}", "--convert-to", kind]
    subprocess.run([*command, "--outdir", str(path.parent), str(path)], check=True, capture_output=True, timeout=120)


def packed(files: dict[str, str | bytes]) -> bytes:
    """A ZIP archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


# -- e-books, drawings, text -----------------------------------------------------------------------------------------


def epub(text: str) -> bytes:
    rootfile = '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/>'
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'<container version="1.0" xmlns="{container}"><rootfiles>{rootfile}</rootfiles>'
            "</container>",
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="i">'
            '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Lights of the coast</dc:title></metadata>'
            '<manifest><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
            '<item id="b" href="b.xhtml" media-type="application/xhtml+xml"/></manifest>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "a.xhtml": _xhtml("<h1>Lights</h1><p>The coast has many lights.</p>"),
            "b.xhtml": _xhtml(f"<h1>Towers</h1><p>{text}</p>"),
        }
    )


def _xhtml(body: str) -> str:
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{body}</body></html>'


def mobi(text: str) -> bytes:
    """One uncompressed record of text, in the older of the two dialects."""
    body = f"<html><body><h1>Lights</h1><p>{text}</p></body></html>".encode()
    header = struct.pack(">HHIHHHH", 1, 0, len(body), 1, 4096, 0, 0)
    records = [header + b"MOBI" + struct.pack(">III", 232, 2, 65001) + bytes(216), body]
    offset = 78 + 8 * len(records) + 2
    entries = b""
    for number, record in enumerate(records):
        entries += struct.pack(">II", offset, number)
        offset += len(record)
    start = b"Lights".ljust(32, b"\0") + bytes(28) + b"BOOKMOBI" + bytes(8) + struct.pack(">H", len(records))
    return start + entries + b"\0\0" + b"".join(records)


def fb2(text: str) -> bytes:
    info = "<description><title-info><book-title>Lights of the coast</book-title></title-info></description>"
    body = f"<body><section><title><p>Towers</p></title><p>{text}</p></section></body>"
    start = '<?xml version="1.0" encoding="utf-8"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0">'
    return f"{start}{info}{body}</FictionBook>".encode()


def cbz(text: str) -> bytes:
    """Two pages, the later one first in the archive; and what is no picture."""
    return packed({"p10.png": picture(text), "p9.jpg": picture("A storm rises.", "JPEG"), "ComicInfo.xml": "<x/>"})


def picture(text: str, kind: str = "PNG") -> bytes:
    image = Image.new("RGB", (1240, 600), "white")
    ImageDraw.Draw(image).text((80, 120), text, fill="black", font=ImageFont.load_default(34))
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def xps(text: str) -> bytes:
    schema = "http://schemas.microsoft.com/xps/2005/06"
    relation = "http://schemas.openxmlformats.org/package/2006/relationships"
    place = 'FontRenderingEmSize="20" OriginX="90" OriginY="120"'
    glyphs = f'<Glyphs Fill="#ff000000" FontUri="/f.ttf" {place} UnicodeString="{text}"/>'
    return packed(
        {
            "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
            "_rels/.rels": f'<Relationships xmlns="{relation}">'
            f'<Relationship Id="r" Type="{schema}/fixedrepresentation" Target="/s.fdseq"/></Relationships>',
            "s.fdseq": f'<FixedDocumentSequence xmlns="{schema}"><DocumentReference Source="/d.fdoc"/>'
            "</FixedDocumentSequence>",
            "d.fdoc": f'<FixedDocument xmlns="{schema}"><PageContent Source="/1.fpage"/></FixedDocument>',
            "1.fpage": f'<FixedPage xmlns="{schema}" Width="793" Height="1122">{glyphs}</FixedPage>',
            "f.ttf": pymupdf.Font("cjk").buffer,
        }
    )


def svg(text: str) -> bytes:
    words = f'<text x="30" y="60" font-size="16">{text}</text><rect x="30" y="90" width="200" height="80" fill="teal"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="560" height="300">{words}</svg>'.encode()


def html(text: str) -> bytes:
    table = "<table><tr><th>Harbour</th><th>Ships</th></tr><tr><td>Calais</td><td>1,204</td></tr></table>"
    head = "<head><title>Lights of the coast</title><script>document.write('no script runs')</script></head>"
    return f"<!DOCTYPE html><html>{head}<body><h1>Towers</h1><p>{text}</p>{table}</body></html>".encode()


def markdown(text: str) -> bytes:
    table = "| Harbour | Ships |\n|---|---:|\n| Calais | 1,204 |\n"
    return f"# Towers\n\n{text}\n\n- a list\n- of *two*\n\n{table}\n```\ncode = 1\n```\n".encode()


# -- Office ----------------------------------------------------------------------------------------------------------


def docx(text: str) -> bytes:
    body = f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
    main = f"{_OOXML}/wordprocessingml/2006/main"
    return _ooxml(
        "word/document.xml",
        "wordprocessingml.document",
        f'<w:document xmlns:w="{main}"><w:body>{body}</w:body></w:document>',
    )


def xlsx(text: str) -> bytes:
    """Nineteen columns wide: more than stand on a page, if it were not made to fit."""
    main, relation = f"{_OOXML}/spreadsheetml/2006/main", f"{_OOXML}/officeDocument/2006/relationships"
    cells = "".join(
        f'<c r="{column}1" t="inlineStr"><is><t>in {column}</t></is></c>' for column in "BCDEFGHIJKLMNOPQRS"
    )
    row = f'<row r="1"><c r="A1" t="inlineStr"><is><t>{text}</t></is></c>{cells}</row>'
    sheets = '<sheets><sheet name="Towers" sheetId="1" r:id="s"/></sheets>'
    book = f'<workbook xmlns="{main}" xmlns:r="{relation}">{sheets}</workbook>'
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
    return _ooxml(
        "xl/workbook.xml",
        "spreadsheetml.sheet",
        book,
        override=f'<Override PartName="/xl/sheet.xml" ContentType="{kind}"/>',
        more={
            "xl/_rels/workbook.xml.rels": relations({"s": ("worksheet", "sheet.xml", "")}),
            "xl/sheet.xml": f'<worksheet xmlns="{main}"><sheetData>{row}</sheetData></worksheet>',
        },
    )


def _ooxml(
    part: str, kind: str, content: str, *, override: str = "", more: dict[str, str | bytes] | None = None
) -> bytes:
    types = f"{_OOXML}/package/2006/content-types"
    packages = "application/vnd.openxmlformats-package.relationships+xml"
    main = f"application/vnd.openxmlformats-officedocument.{kind}.main+xml"
    return packed(
        {
            "[Content_Types].xml": f'<Types xmlns="{types}"><Default Extension="rels" ContentType="{packages}"/>'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/{part}" ContentType="{main}"/>{override}</Types>',
            "_rels/.rels": relations({"r": ("officeDocument", part, "")}),
            part: content,
            **(more or {}),
        }
    )


def relations(targets: dict[str, tuple[str, str, str]]) -> str:
    """{id: (kind, target, "External" or "")}"""
    items = "".join(
        f'<Relationship Id="{key}" Type="{_OOXML}/officeDocument/2006/relationships/{kind}" Target="{target}"'
        f"{f' TargetMode={chr(34)}{mode}{chr(34)}' if mode else ''}/>"
        for key, (kind, target, mode) in targets.items()
    )
    return f'<Relationships xmlns="{_OOXML}/package/2006/relationships">{items}</Relationships>'


def linked_docx(text: str, *targets: str) -> bytes:
    """With a picture that stands elsewhere, at each of `targets`."""
    main, drawing = f"{_OOXML}/wordprocessingml/2006/main", f"{_OOXML}/drawingml/2006"
    size = '<a:xfrm><a:off x="0" y="0"/><a:ext cx="1800000" cy="1800000"/></a:xfrm>'
    shape = f'<pic:spPr>{size}<a:prstGeom prst="rect"/></pic:spPr>'
    frames = "".join(
        '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="1800000" cy="1800000"/><wp:docPr id="1" name="x"/><a:graphic>'
        f'<a:graphicData uri="{drawing}/picture"><pic:pic><pic:nvPicPr><pic:cNvPr id="0" name="x"/><pic:cNvPicPr/>'
        f'</pic:nvPicPr><pic:blipFill><a:blip r:link="i{number}"/></pic:blipFill>{shape}</pic:pic></a:graphicData>'
        "</a:graphic></wp:inline></w:drawing></w:r></w:p>"
        for number, _ in enumerate(targets)
    )
    spaces = f'xmlns:r="{_OOXML}/officeDocument/2006/relationships" xmlns:wp="{drawing}/wordprocessingDrawing" '
    spaces += f'xmlns:a="{drawing}/main" xmlns:pic="{drawing}/picture"'
    body = f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>{frames}"
    return _ooxml(
        "word/document.xml",
        "wordprocessingml.document",
        f'<w:document xmlns:w="{main}" {spaces}><w:body>{body}</w:body></w:document>',
        more={
            "word/_rels/document.xml.rels": relations(
                {f"i{number}": ("image", target, "External") for number, target in enumerate(targets)}
            )
        },
    )


def odt(text: str, *links: str) -> bytes:
    """With a picture that stands elsewhere, at each of `links`."""
    frames = "".join(
        f'<text:p><draw:frame svg:width="5cm" svg:height="5cm"><draw:image xlink:href="{link}" xlink:type="simple" '
        'xlink:show="embed" xlink:actuate="onLoad"/></draw:frame></text:p>'
        for link in links
    )
    return _odf("text", f"<text:p>{text}</text:p>{frames}")


def ods(text: str, *formulas: str) -> bytes:
    cells = [f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>']
    cells += [f'<table:table-cell table:formula="of:={formula}" office:value-type="string"/>' for formula in formulas]
    row = f"<table:table-row>{''.join(cells)}</table:table-row>"
    return _odf("spreadsheet", f'<table:table table:name="Towers">{row}</table:table>')


def odp(text: str) -> bytes:
    place = 'svg:x="2cm" svg:y="3cm" svg:width="22cm" svg:height="3cm"'
    box = f"<draw:frame {place}><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"
    return _odf("presentation", f'<draw:page draw:name="one">{box}</draw:page>')


def _odf(kind: str, body: str) -> bytes:
    spaces = {"office": "office", "text": "text", "table": "table", "draw": "drawing", "svg": "svg-compatible"}
    names = " ".join(f'xmlns:{short}="{_ODF}:{name}:1.0"' for short, name in spaces.items())
    names += f' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:of="{_ODF}:of:1.2"'
    mime = f"application/vnd.oasis.opendocument.{kind}"
    entry = f'<m:file-entry m:full-path="/" m:media-type="{mime}"/>'
    entry += '<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/>'
    content = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    return packed(
        {
            "mimetype": mime,
            "META-INF/manifest.xml": f'<m:manifest xmlns:m="{_ODF}:manifest:1.0">{entry}</m:manifest>',
            "content.xml": f"<office:document-content {names}>{content}</office:document-content>",
        }
    )
