"""Presidio itself reads what is left after redaction: it marks what was planted, and nothing once it is redacted."""

from pathlib import Path

import pytest

from lmexp.config.corpus import KINDS
from lmexp.config.prepare import compose_preparation
from lmexp.corpus.audit import audit
from lmexp.corpus.prepare import prepare
from lmexp.corpus.redaction import redact

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

PLANTED = {
    "EMAIL_ADDRESS": "Write to ada.lovelace@example.org about it.",
    "CREDIT_CARD": "The card 4111 1111 1111 1111 was charged.",
    "IBAN_CODE": "Pay to GB82 WEST 1234 5698 7654 32 by Monday.",
    "IP_ADDRESS": "The host at 192.168.17.4 did not answer.",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_presidio_marks_what_is_there_and_nothing_of_it_after_redaction(kind: str) -> None:
    text = PLANTED[kind]
    assert audit([text], 1)["finds"].get(kind) == 1
    assert audit([redact(text, KINDS)[0]], 1) == {"documents": 1, "finds": {}}


def test_it_reads_as_many_documents_as_were_asked_for() -> None:
    texts = iter([PLANTED["EMAIL_ADDRESS"]] * 5)
    assert audit(texts, 3) == {"documents": 3, "finds": {"EMAIL_ADDRESS": 3}}
    assert len(list(texts)) == 2


def test_the_card_says_what_presidio_still_marks_and_is_written_anew_for_another_count(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(f"Number {n}. {text}" for n, text in enumerate(PLANTED.values())))

    def run(count: int) -> str:
        options = [f"corpus.path={tmp_path / 'in.txt'}", f"out={tmp_path / 'out'}", "workers=1"]
        kinds = "corpus.redact.kinds=[card,iban]"
        prepare(compose_preparation([*options, "corpus.extract.documents=line", kinds, f"corpus.redact.audit={count}"]))
        return (tmp_path / "out" / "README.md").read_text()

    all_four = run(4)
    assert "Of 4 documents after redaction it still marks" in all_four
    assert "EMAIL_ADDRESS" in all_four
    assert "IP_ADDRESS" in all_four
    assert "IBAN_CODE" not in all_four
    assert "Of 2 documents after redaction it still marks" in run(2)
    assert "presidio" not in run(0)
