"""Chunks fit the encoder, leave nothing out, and know exactly where their words stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from build import RELAXED, page, region
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunk import MIN_PICTURE_AREA, Tokens, chunk_pages
from mmrag.encoders import BundledTextEncoder
from mmrag.testing import HashEncoder
from mmrag.types import WHOLE_PAGE, BBox, Chunk, Page, RegionKind

TEXT, TITLE, ITEM = RegionKind.TEXT, RegionKind.SECTION_HEADER, RegionKind.LIST_ITEM
TABLE, PICTURE, CAPTION = RegionKind.TABLE, RegionKind.PICTURE, RegionKind.CAPTION
HEAD, FOOT = RegionKind.PAGE_HEADER, RegionKind.PAGE_FOOTER

ENCODERS = {
    "160 words": HashEncoder(max_tokens=160),
    "bundled": BundledTextEncoder(),
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())

WORDS = st.sampled_from(
    [
        "lamp",
        "red",
        "The",
        "door.",
        "Why?",
        "e.g.",
        "3.5%",
        "(12)",
        "a-b",
        "灯是红的。",
        "王",
        "램프",
        "—",
        "https://a.b/c?d=e",
    ]
) | st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)
PARAGRAPHS = st.lists(WORDS, min_size=1, max_size=12).map(" ".join) | st.builds(
    lambda words, times: " ".join(words * times), st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 80)
)
TABLES = st.lists(st.lists(PARAGRAPHS | WORDS, min_size=1, max_size=3).map("\t".join), min_size=1, max_size=5).map(
    "\n".join
)
KINDS = st.sampled_from([kind for kind in RegionKind if kind is not TABLE])
BLOCKS = st.tuples(KINDS, PARAGRAPHS) | st.tuples(st.just(TABLE), TABLES) | st.tuples(st.just(PICTURE), st.just(""))
DOCUMENTS = st.lists(st.lists(BLOCKS, max_size=5), min_size=1, max_size=2)

PROSE = " ".join(f"Lamp {i} stands in room {i} and is red." for i in range(120))


def covered(pages: list[Page], chunks: list[Chunk]) -> dict[str, set[int]]:
    """Of each region the characters that stand in a chunk."""
    places: dict[str, set[int]] = {r.id: set() for p in pages for r in p.regions}
    for chunk in chunks:
        for span in chunk.spans:
            places[span.region_id].update(range(span.region_start, span.region_start + span.end - span.start))
    return places


def size(chunk: Chunk, encoder: Tokens) -> int:
    return encoder.count_tokens([chunk.encoded_text])[0] + 2


# -- what holds for every document -----------------------------------------------------------------------------------


def check(pages: list[Page], chunks: list[Chunk], encoder: Tokens) -> None:
    regions = {r.id: r for p in pages for r in p.regions}
    places = covered(pages, chunks)
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    for chunk in chunks:
        assert size(chunk, encoder) <= encoder.max_tokens
        assert chunk.spans
        for span in chunk.spans:
            of = regions[span.region_id].text
            said = chunk.text[span.start : span.end]
            assert said == of[span.region_start : span.region_start + len(said)]
            assert len(said) == span.end - span.start
        assert "".join(chunk.text.split()) == "".join("".join(chunk.text[s.start : s.end] for s in chunk.spans).split())
        assert chunk.box == BBox.union([regions[span.region_id].box for span in chunk.spans])
    for of_page in pages:
        for found in of_page.regions:
            body = {i for i, character in enumerate(found.text) if not character.isspace()}
            assert places[found.id] >= body if not found.kind.is_furniture else not places[found.id]


@each_encoder
@settings(RELAXED, max_examples=80)
@given(blocks=DOCUMENTS)
def test_chunks_fit_are_exact_and_cover_everything(encoder: Tokens, blocks: list[list[tuple[RegionKind, str]]]) -> None:
    pages = [page(*of_page, number=i) for i, of_page in enumerate(blocks, start=1)]
    check(pages, chunk_pages("d", pages, encoder), encoder)


@each_encoder
@pytest.mark.parametrize(
    "blocks",
    [
        [(TITLE, "Lamps"), (TEXT, PROSE), (TEXT, "A short one.")],
        [(TITLE, "title " * 150), (TEXT, PROSE)],
        [(TEXT, "word " * 900)],  # no sentence ends
        [(TITLE, "Lamps"), (TABLE, "Name\tRoom\n" + "\n".join(f"Lamp {i}\t{i} of 120" for i in range(120)))],
        [(TITLE, "title " * 150), (TABLE, "Name\tRoom\n" + "\n".join(f"Lamp {i}\t{i}" for i in range(400)))],
        [(PICTURE, PROSE)],
        [(HEAD, "Report"), (TEXT, PROSE), (FOOT, "Page 7")],
        [(ITEM, f"{i}. Lamp") for i in range(120)],
    ],
    ids=[
        "prose",
        "long title",
        "one sentence",
        "long table",
        "long table under a long title",
        "chart full of words",
        "furniture",
        "list",
    ],
)
def test_typical_pages(blocks: list[tuple[RegionKind, str]], encoder: Tokens) -> None:
    pages = [page(*((kind, text.strip()) for kind, text in blocks))]
    check(pages, chunk_pages("d", pages, encoder), encoder)


@each_encoder
@pytest.mark.parametrize("text", ["灯" * 3000, "lamp/" * 800, "=" * 2000], ids=["Chinese", "path", "rule"])
def test_a_page_long_string_without_spaces_is_split(text: str, encoder: Tokens) -> None:
    pages = [page((TEXT, text))]
    chunks = chunk_pages("d", pages, encoder)
    check(pages, chunks, encoder)
    if isinstance(encoder, BundledTextEncoder):  # to the other one it is a single word
        assert len(chunks) > 1


@pytest.mark.parametrize("max_tokens", [20, 60, 77])  # SigLIP reads 64, CLIP 77
def test_an_encoder_that_reads_little_gets_small_chunks(max_tokens: int) -> None:
    encoder = HashEncoder(max_tokens=max_tokens)
    pages = [page((TITLE, "Lamps of the house"), (TEXT, PROSE), (TABLE, "Name\tRoom\nLamp\t7\nDoor\t8"))]
    check(pages, chunk_pages("d", pages, encoder), encoder)


# -- text ------------------------------------------------------------------------------------------------------------


def contexts(*pages: Page, encoder: Tokens = ENCODERS["bundled"]) -> list[tuple[str, str]]:
    return [(chunk.context, chunk.text) for chunk in chunk_pages("d", pages, encoder)]


def test_short_blocks_under_one_title_share_a_chunk() -> None:
    first, second = "The lamp is red.", "The door is blue."
    assert contexts(page((TITLE, "Colours"), (TEXT, first), (ITEM, second))) == [("", f"Colours\n{first}\n{second}")]


def test_the_title_is_carried_to_the_next_pages_until_the_next_title() -> None:
    pages = [
        page((TITLE, "Lamps"), (TEXT, "Red.")),
        page((TEXT, "Blue."), number=2),
        page((HEAD, "Report"), number=3),
        page((TEXT, "Green."), (TITLE, "Doors"), (TEXT, "Grey."), number=4),
        page((TEXT, "Black."), number=5),
    ]
    assert contexts(*pages) == [
        ("", "Lamps\nRed."),
        ("Lamps", "Blue."),
        ("Lamps", "Green."),
        ("", "Doors\nGrey."),
        ("Doors", "Black."),
    ]


def test_the_title_is_carried_into_the_later_chunks_of_a_long_section() -> None:
    found = contexts(page((TITLE, "Lamps of the house"), (TEXT, PROSE)))
    assert len(found) > 2
    assert [context for context, _ in found] == ["", *["Lamps of the house"] * (len(found) - 1)]


def test_titles_in_a_row_stay_together() -> None:
    assert contexts(page((TITLE, "1 House"), (TITLE, "1.1 Lamps"), (TEXT, "Red."))) == [
        ("", "1 House\n1.1 Lamps\nRed.")
    ]


def test_furniture_is_left_out_and_does_not_part_a_section() -> None:
    assert contexts(page((HEAD, "Report"), (TEXT, "Red."), (FOOT, "7"), (TEXT, "Blue."))) == [("", "Red.\nBlue.")]


def test_chunks_are_cut_between_sentences() -> None:
    assert all(text.startswith("Lamp") and text.endswith("red.") for _, text in contexts(page((TEXT, PROSE))))


def test_no_pages_or_no_words_give_no_chunks() -> None:
    assert chunk_pages("d", [], ENCODERS["bundled"]) == []
    assert chunk_pages("d", [Page(1, 595, 842)], ENCODERS["bundled"]) == []


# -- tables ----------------------------------------------------------------------------------------------------------

ROWS = [f"Lamp number {i}\troom {i}\t{i} EUR" for i in range(120)]


def test_a_table_that_fits_is_one_chunk_under_its_title_and_caption() -> None:
    text = "\n".join(["Name\tRoom\tPrice", *ROWS[:12]])
    caption = region("Table 1: Lamps", CAPTION, id="cap")
    table = region(text, TABLE, id="tab", caption="cap")
    title = region("The house", TITLE, id="title")
    found = contexts(Page(1, 595, 842, (title, caption, table)))
    assert found[-1] == ("The house\nTable 1: Lamps", text)


@pytest.mark.parametrize("max_tokens", [160, 256, 512])
def test_a_split_table_repeats_its_header(max_tokens: int) -> None:
    encoder = HashEncoder(max_tokens=max_tokens)
    pages = [page((TABLE, "\n".join(["Name\tRoom\tPrice", *ROWS])))]
    found = [text.split("\n") for _, text in contexts(*pages, encoder=encoder)]
    assert len(found) > 1
    assert {rows[0] for rows in found} == {"Name\tRoom\tPrice"}
    assert [row for rows in found for row in rows[1:]] == ROWS


@pytest.mark.parametrize("encoder", [HashEncoder(max_tokens=512), ENCODERS["bundled"]], ids=["words", "bundled"])
def test_a_giant_row_is_split_and_keeps_its_place(encoder: Tokens) -> None:
    pages = [page((TABLE, "\n".join(["Name\tNote", "First\tshort", f"Second\t{PROSE}", "Third\tshort"])))]
    chunks = chunk_pages("d", pages, encoder)
    check(pages, chunks, encoder)
    body = [span.region_start for chunk in chunks for span in chunk.spans if span.region_start >= len("Name\tNote")]
    assert body == sorted(body)


def test_a_giant_row_that_repeats_itself_is_covered_to_its_end() -> None:
    pages = [page((TABLE, "Name\tNote\nFirst\tshort\nSecond\t" + "The lamp is red. " * 300 + "Done."))]
    encoder = ENCODERS["bundled"]
    check(pages, chunk_pages("d", pages, encoder), encoder)


def test_the_header_of_a_single_giant_row_is_covered() -> None:
    pages = [page((TABLE, f"Name\tNote\nFirst\t{PROSE}"))]
    encoder = ENCODERS["bundled"]
    check(pages, chunk_pages("d", pages, encoder), encoder)


def test_a_table_without_words_makes_no_chunk() -> None:
    assert contexts(page((TABLE, ""), (TEXT, "Red."))) == [("", "Red.")]


def test_a_table_of_giant_rows_alone_is_covered() -> None:
    pages = [page((TABLE, f"{PROSE}\t1\n{PROSE}\t2"))]
    encoder = ENCODERS["bundled"]
    check(pages, chunk_pages("d", pages, encoder), encoder)


def test_a_header_as_long_as_the_page_is_still_covered() -> None:
    pages = [page((TABLE, f"{PROSE}\tRoom\nLamp\t7"))]
    encoder = ENCODERS["bundled"]
    check(pages, chunk_pages("d", pages, encoder), encoder)


# -- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture_without_words_is_one_empty_chunk_under_its_caption() -> None:
    picture = region("", PICTURE, id="pic", caption="cap")
    caption = region("Figure 1: A red lamp", CAPTION, id="cap")
    pages = [Page(1, 595, 842, (picture, caption))]
    (found,) = [c for c in chunk_pages("d", pages, ENCODERS["bundled"]) if c.kind is PICTURE]
    assert (found.text, found.context, found.box) == ("", "Figure 1: A red lamp", picture.box)
    assert [span.region_id for span in found.spans] == ["pic"]


def test_a_picture_without_words_or_caption_is_found_by_the_text_nearest_to_it() -> None:
    near, far = BBox(0.1, 0.52, 0.5, 0.6), BBox(0.1, 0.9, 0.5, 0.95)
    regions = (
        region("The house", TITLE, id="title"),
        region("", PICTURE, id="pic", box=BBox(0.1, 0.2, 0.5, 0.5)),
        region("Far away.", TEXT, id="far", box=far),
        region("The lamp is red.", TEXT, id="near", box=near),
    )
    found = contexts(Page(1, 595, 842, regions))
    assert ("The house\nThe lamp is red.", "") in found


def test_a_lone_picture_without_anything_is_kept() -> None:
    (found,) = chunk_pages("d", [Page(1, 595, 842, (region("", PICTURE, box=WHOLE_PAGE),))], ENCODERS["bundled"])
    assert (found.encoded_text, found.box) == ("", WHOLE_PAGE)


@pytest.mark.parametrize(("text", "kept"), [("", False), ("LOGO", True)])
def test_an_ornament_is_skipped_unless_it_has_words(text: str, kept: bool) -> None:
    side = MIN_PICTURE_AREA**0.5 * 0.99
    logo = region(text, PICTURE, box=BBox(0.1, 0.1, 0.1 + side, 0.1 + side))
    assert bool(chunk_pages("d", [Page(1, 595, 842, (logo,))], ENCODERS["bundled"])) is kept


def test_an_ornament_does_not_part_a_section() -> None:
    logo = region("", PICTURE, id="logo", box=BBox(0.1, 0.1, 0.12, 0.12))
    regions = (region("Red.", id="a"), logo, region("Blue.", id="b"))
    assert contexts(Page(1, 595, 842, regions)) == [("", "Red.\nBlue.")]


@pytest.mark.parametrize("encoder", [*ENCODERS.values(), HashEncoder(max_tokens=40)], ids=[*ENCODERS, "40 words"])
@pytest.mark.parametrize("words", ["", "2019 2020 2021", PROSE])
def test_a_description_stands_before_every_piece_of_its_picture_and_fits(encoder: Tokens, words: str) -> None:
    described = "A bar chart of lamps by year. " * 30
    blocks = [(TITLE, "Lamps of the house"), (TEXT, PROSE), (PICTURE, words), (TEXT, PROSE)]
    bare = page(*blocks)
    regions = tuple(replace(r, description=described) if r.kind is PICTURE else r for r in bare.regions)
    pages = [replace(bare, regions=regions)]
    chunks = chunk_pages("d", pages, encoder)
    check(pages, chunks, encoder)
    pieces = [chunk for chunk in chunks if chunk.kind is PICTURE]
    assert "".join(piece.text for piece in pieces).replace(" ", "") == words.replace(" ", "")
    for piece in pieces:
        assert piece.description
        assert described.startswith(piece.description)
        assert piece.context.startswith("Lamps of the house"[:8])
        assert piece.description not in piece.context
        assert piece.encoded_text == f"{piece.context}\n{piece.description}\n{piece.text}"
    assert {chunk.description for chunk in chunks if chunk.kind is not PICTURE} == {""}
