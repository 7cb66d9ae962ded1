"""Claims held against regions: what is supported, what is not, why; cited anew, flagged or dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from build import RELAXED, evidence, region
from hypothesis import given
from hypothesis import strategies as st

import mmrag
from eval.calibration import auroc, balanced_accuracy
from eval.groundedness import LabelledClaim, evaluate, judge_keywords, load_claims, word_overlap
from eval.tampering import evaluate_tampering, tampered_claims
from mmrag.bundled import BundledAligner
from mmrag.errors import UsageError
from mmrag.index import Index
from mmrag.rerank import HubEntailment
from mmrag.testing import ScriptedLLM, tiny_cross_encoder
from mmrag.types import Claim, Draft, Evidence, RegionKind, Support, Verdict
from mmrag.verify import Check, check, check_draft, examine, look_again, nearness, without_unsupported

LAMPS = "The lamp in the hall is red and was made by Philips in 1820. Sales of lamps rose to 5.2 million in 2024."


@pytest.fixture(scope="module")
def by_words() -> Check:
    return partial(check, align=BundledAligner().align)


# -- single claims ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim",
    [
        "The lamp in the hall is red.",
        "Lamp sales rose to 5,200,000 in 2024.",
        "Philips made the red lamp of the hall in 1820.",
        "Sales of lamps increased to 5.2 million in 2024.",
    ],
)
def test_what_a_region_says_is_supported(by_words: Check, claim: str) -> None:
    assert by_words(claim, [LAMPS]).support is Support.SUPPORTED


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("Sales of lamps rose to 5.3 million in 2024.", "Sales of lamps rose to 5.2 million"),
        ("Sales of lamps rose to 5.2 million in 2023.", "Sales of lamps rose to 5.2 million"),
        ("Sales of lamps fell to 5.2 million in 2024.", "Sales of lamps rose to 5.2 million"),
        ("The lamp in the hall was made by Siemens in 1820.", "It does not name Siemens."),
        ("The lamp in the hall is not red.", "The lamp in the hall is red"),
        ("A committee of shareholders elected its chairwoman.", "Nothing there is like"),
        ("There were nine hundred visitors.", "is not there"),
    ],
)
def test_what_it_does_not_say_is_not_and_the_reason_is_told(by_words: Check, claim: str, reason: str) -> None:
    verdict = by_words(claim, [LAMPS])
    assert verdict.support is not Support.SUPPORTED
    assert reason in verdict.reason


def test_another_figure_in_the_same_sentence_contradicts(by_words: Check) -> None:
    assert by_words("Sales of lamps rose to 5.3 million in 2024.", [LAMPS]).support is Support.CONTRADICTED


def test_chinese_claims(by_words: Check) -> None:
    source = "公司2024年净利润为520万元，同比增长12%。"
    assert by_words("2024年净利润为520万元。", [source]).support is Support.SUPPORTED
    assert by_words("2024年净利润为530万元。", [source]).support is Support.CONTRADICTED
    assert by_words("净利润同比下降12%。", [source]).support is not Support.SUPPORTED


def test_a_region_without_words_cannot_be_checked(by_words: Check) -> None:
    assert by_words("The lamp is red.", ["", " "]).support is Support.UNCHECKED


@RELAXED
@given(st.text(max_size=80), st.text(max_size=120))
def test_every_claim_gets_a_verdict(claim: str, source: str) -> None:
    verdict = check(claim, [source], lambda claim, passages: [(word, 0.5) for word in claim.split()])
    assert 0 <= verdict.probability <= 1
    assert verdict.reason
    assert (verdict.support is Support.UNCHECKED) == (not source.strip())


@RELAXED
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(-1, 1))
def test_a_word_that_comes_nearer_never_hurts(values: list[float], better: float) -> None:
    nearer = [max(value, better) for value in values]
    score = [nearness([("w", value) for value in of]) for of in (values, nearer)]
    assert score[0] <= score[1] + 1e-9


def test_quotes_must_stand_there() -> None:
    assert examine("It calls them “the best lamps of all”.", [LAMPS]).quotes == ("the best lamps of all",)
    assert not examine("It says “the lamp in the hall is red”.", [LAMPS]).quotes


def test_words_come_nearer_to_what_means_the_same() -> None:
    align = BundledAligner().align
    near, far = (dict(align("sales increased", [passage])) for passage in ("Turnover rose.", "The cat sleeps."))
    assert near["sales"] > far["sales"]
    assert near["increased"] > far["increased"]
    assert [word for word, _ in align("unbelievably", ["x"])] == ["unbelievably"]


def test_a_passage_longer_than_the_model_reads_is_read_whole() -> None:
    long = "Nothing else happened. " * 200 + "The lamp in the hall is red."
    aligned = BundledAligner().align("The lamp in the hall is red.", [long])
    assert min(value for word, value in aligned if word.isalpha()) > 0.8


# -- answers ---------------------------------------------------------------------------------------------------------


def looked_at() -> list[Evidence]:
    vase = region("The vase on the table is blue. It was made in Delft.", id="r2")
    picture = evidence(region("", RegionKind.PICTURE, id="r3"), context="Figure 1. The table is round.")
    return [evidence(region(LAMPS, id="r1")), evidence(vase, page_number=2), picture]


def draft(*claims: tuple[str, int | None]) -> Draft:
    items = looked_at()
    made = tuple(Claim(text, () if i is None else (items[i].cite(),), 0.8) for text, i in claims)
    return Draft(made, False, 0.8)


def test_claims_get_verdicts_and_confidence_falls_with_doubt(by_words: Check) -> None:
    checked = check_draft(
        draft(("The lamp is red.", 0), ("It sleeps on Mars.", 0), ("It is round.", 2)), looked_at(), by_words
    )
    verdicts = [claim.verdict for claim in checked.claims]
    assert [verdict and verdict.support for verdict in verdicts] == [
        Support.SUPPORTED,
        Support.UNSUPPORTED,
        Support.UNCHECKED,
    ]
    assert checked.claims[1].confidence < checked.claims[0].confidence <= 0.8
    assert checked.confidence == max(claim.confidence for claim in checked.claims)


def test_a_wrong_citation_is_put_right(by_words: Check) -> None:
    checked = check_draft(draft(("The vase was made in Delft.", 0)), looked_at(), by_words)
    (claim,) = checked.claims
    (citation,) = claim.citations
    assert (citation.region, citation.quote) == ("r2", "It was made in Delft.")
    assert claim.verdict
    assert claim.verdict.support is Support.SUPPORTED
    assert "cited another region" in checked.notes[0]
    assert "page 2" in checked.notes[0]


def test_a_claim_without_a_citation_finds_one_or_is_unsupported(by_words: Check) -> None:
    checked = check_draft(draft(("The vase on the table is blue.", None), ("It sleeps.", None)), looked_at(), by_words)
    assert [[c.region for c in claim.citations] for claim in checked.claims] == [["r2"], []]
    assert checked.claims[1].verdict
    assert checked.claims[1].verdict.support is Support.UNSUPPORTED


def test_what_nothing_supports_is_dropped_where_that_is_wanted(by_words: Check) -> None:
    both = draft(("The lamp is red.", 0), ("The lamp was sold for 900 guilders.", 0))
    checked = without_unsupported(check_draft(both, looked_at(), by_words))
    assert [claim.text for claim in checked.claims] == ["The lamp is red."]
    assert checked.notes == ("Left out, because nothing supports it: The lamp was sold for 900 guilders.",)
    alone = without_unsupported(check_draft(draft(("The lamp was sold for 900 guilders.", 0)), looked_at(), by_words))
    assert (alone.abstained, alone.claims, alone.confidence) == (True, (), 0.0)


def test_what_has_a_verdict_is_not_checked_again() -> None:
    def never(claim: str, passages: object) -> Verdict:
        raise AssertionError

    quoted = Verdict(Support.SUPPORTED, 1.0, "Quoted from the page.")
    before = draft(("The lamp is red.", 0))
    before = replace(before, claims=tuple(replace(claim, verdict=quoted) for claim in before.claims))
    assert check_draft(before, looked_at(), never) == before


@pytest.mark.parametrize(("said", "support"), [("62.1", "supported"), ("63.1", "unsupported")])
def test_a_models_answer_is_checked_on_its_way_out(demo_store: Path, said: str, support: str) -> None:
    def reply(prompt: list) -> str:  # type: ignore[type-arg]
        marked = [line for block in prompt[1].blocks for line in getattr(block, "text", "").splitlines()]
        (row,) = [line for line in marked if line.startswith("[") and "Operating profit by segment" in line]
        return f"The total operating profit of 2024 was EUR {said} million {row[: row.index(']') + 1]}."

    with mmrag.open(demo_store, generator=ScriptedLLM(reply)) as rag:
        answer = rag.ask("What was the total operating profit in 2024?")
    (claim,) = answer.to_json()["claims"]
    assert claim["support"] == support
    assert claim["reason"]
    assert "check" in answer.timings


def test_a_model_that_looks_again_decides_where_words_cannot_and_else_the_less_sure_counts(by_words: Check) -> None:
    before = check_draft(
        draft(("The lamp is red.", 0), ("It is round.", 2), ("It is old.", None)), looked_at(), by_words
    )

    def seen(probability: float, support: Support) -> list[Verdict | None]:
        after = look_again(before, lambda claim, citation: Verdict(support, probability, "Seen."))
        return [claim.verdict for claim in after.claims]

    sure, doubtful = seen(0.99, Support.SUPPORTED), seen(0.1, Support.UNSUPPORTED)
    assert [verdict and verdict.reason == "Seen." for verdict in sure] == [False, True, False]
    assert [verdict and verdict.reason == "Seen." for verdict in doubtful] == [True, True, False]
    unread = seen(0.5, Support.UNCHECKED)
    assert unread == [claim.verdict for claim in before.claims]


def test_a_claim_about_a_picture_is_looked_at_again_on_its_way_out(demo_store: Path) -> None:
    asked: list[str] = []

    def reply(prompt: list) -> str:  # type: ignore[type-arg]
        texts = [getattr(block, "text", "") for message in prompt for block in message.blocks]
        if any("yes or no" in text for text in texts):
            asked.append(texts[-1])
            return "Yes." if len(asked) == 1 else "No."
        mark = next(line for text in texts for line in text.splitlines() if "] picture" in line)
        return f"Arrows lead from box to box {mark[: mark.index(']') + 1]}."

    with mmrag.open(demo_store, generator=ScriptedLLM(reply), check="look") as rag:
        answer = rag.ask("What happens after a turbine alarm?")
    assert answer.claims[0].verdict
    assert len(asked) == 2
    assert "look" in answer.timings


def test_quotes_of_the_page_need_no_check(demo_store: Path) -> None:
    with mmrag.open(demo_store) as rag:
        answer = rag.ask("What was the operating profit in 2024?")
    assert {claim.verdict and claim.verdict.reason for claim in answer.claims} == {"Quoted from the page."}


# -- NLI models ------------------------------------------------------------------------------------------------------


def test_an_nli_models_probability_of_entailment(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tiny_cross_encoder(tmp_path / "nli", num_labels=3)
    config = transformers.AutoConfig.from_pretrained(folder)
    with pytest.raises(UsageError, match="which of its labels means entailment"):
        HubEntailment(str(folder), device="cpu")
    config.id2label = {0: "contradiction", 1: "entailment", 2: "neutral"}
    config.save_pretrained(folder)
    entail = HubEntailment(str(folder), device="cpu")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer("a lamp", "a red lamp", return_tensors="pt")).logits
    assert entail("a lamp", "a red lamp") == pytest.approx(float(logits.softmax(dim=-1)[0, 1]), abs=1e-5)
    verdict = check("The lamp is red.", ["A lamp. It is red, the lamp."], lambda *_: [("lamp", 1.0)], entail=entail)
    assert verdict.probability == pytest.approx(entail("A lamp. It is red, the lamp.", "The lamp is red."))


# -- measurements ----------------------------------------------------------------------------------------------------


def test_balanced_accuracy_and_auroc_by_hand() -> None:
    import numpy as np

    said, labels = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 0, 0, 1], bool)
    assert balanced_accuracy(said, labels) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert auroc(np.array([0.9, 0.8, 0.8, 0.1]), np.array([1, 1, 0, 0])) == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def labelled(name: str, dataset: str, supported: bool) -> LabelledClaim:
    return LabelledClaim(name, dataset, "claim", "source", supported, () if supported else ("swap",))


def test_one_threshold_for_all_sets_is_chosen_on_other_rows() -> None:
    items = [labelled(f"{d}{i}", d, i % 2 == 0) for d in ("a", "b/x", "b/y") for i in range(40)]
    clear = {item.id: 0.9 if item.is_supported else 0.1 for item in items}
    report = evaluate(items, clear)
    assert {name: score.balanced_accuracy for name, score in report.sets.items()} == {"a": 1.0, "b": 1.0}
    assert (report.mean.mean, report.missed) == (1.0, {"swap": (0, 60)})
    # Where the sets disagree about the scale, one threshold serves one of them.
    shifted = {item.id: clear[item.id] + (1.0 if item.dataset == "a" else 0.0) for item in items}
    assert evaluate(items, shifted).mean.mean == pytest.approx(0.75, abs=0.02)
    noise = {item.id: (hash(item.id) % 97) / 97 for item in items}
    assert 0.3 < evaluate(items, noise).mean.mean < 0.7


def test_labelled_claims_of_published_form(tmp_path: Path) -> None:
    file = tmp_path / "claims.jsonl"
    file.write_text(
        '{"id": "1", "dataset": "WiCE", "claim": "Red.", "label": "partial", "source_sentences": ["It is", "red."]}\n'
        '{"id": "2", "dataset": "Z", "claim": "利润为520万元。", "source": "利润为530万元。", "label": "unsupported", '
        '"keywords": [{"keyword": "利润", "label": "supported"}, {"keyword": "520万元", "label": "unsupported"}]}\n',
        encoding="utf-8",
    )
    first, second = load_claims(file)
    assert (first.source, first.is_supported, word_overlap(first)) == ("It is\nred.", False, 1.0)
    assert judge_keywords([first, second]) == [(True, True), (False, False)]
    file.write_text('{"id": "1"}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"claims\.jsonl cannot be read as labelled claims"):
        load_claims(file)


@pytest.fixture(scope="module")
def index(demo_store: Path) -> Iterator[Index]:
    with Index.open(demo_store) as index:
        yield index


def test_tampered_claims_are_caught_and_true_ones_kept(index: Index, by_words: Check) -> None:
    items = tampered_claims(index, count=60, seed=3)
    assert {item.kind for item in items} == {"true", "figure", "name", "citation"}
    report = evaluate_tampering(items, by_words)
    for kind, (right, of) in report.counts.items():
        assert right >= 0.9 * of, (kind, report.wrong)


def test_the_same_seed_draws_the_same_claims(index: Index) -> None:
    assert tampered_claims(index, count=10, seed=1) == tampered_claims(index, count=10, seed=1)
    assert tampered_claims(index, count=10, seed=1) != tampered_claims(index, count=10, seed=2)
