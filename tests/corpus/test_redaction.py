"""Personal data of many countries becomes a placeholder; what only looks like it stays; no text takes long."""

import pytest

from lmexp.config.corpus import KINDS
from lmexp.corpus.redaction import RULES, luhn, redact
from tests.timing import assert_time_grows_with_length

FOUND = {
    "email": [
        "ada@example.org",
        "first.last+tag@sub.mail.example.co.uk",
        "ADA@EXAMPLE.ORG",
        "müller@bücher.de",
        "x_y-z@example-site.museum",
    ],
    "phone": [
        "+44 20 7946 0958",
        "020 7946 0958",
        "07911 123456",
        "+1 (415) 555-2671",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-800-555-0199",
        "+49 (0)30 901820",
        "030/901820",
        "(030) 901820",
        "+33 1 42 68 53 00",
        "01 42 68 53 00",
        "+86 138 1234 5678",
        "13812345678",
        "138-1234-5678",
        "010-62345678",
        "+91-9876543210",
        "03-1234-5678",
        "+55 11 91234-5678",
        "+34 912 345 678",
        "+39 06 698 83712",
        "0412 345 678",
        "+7 495 123-45-67",
        "+47 22 12 34 56",
        "0048 22 123 45 67",
    ],
    "card": [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111111111111111",
        "5500 0000 0000 0004",
        "2223000048400011",
        "3782 822463 10005",
        "6011000990139424",
        "3056 930902 5904",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NL91 ABNA 0417 1643 00",
        "ES91 2100 0418 4502 0005 1332",
        "IT60 X054 2811 1010 0000 0123 456",
        "CH93 0076 2011 6238 5295 7",
        "NO93 8601 1117 947",
        "PL61 1090 1014 0000 0712 1981 2874",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    ],
    "ip": [
        "192.168.0.1",
        "8.8.8.8",
        "2001:db8::1",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "fe80::1ff:fe23:4567:1a",
    ],
    "url_credentials": [
        "https://user:secret@example.org/x",
        "postgres://user:p%40ss@db.example.org:5432/name",
        "https://example.org/?token=abcd1234",
        "https://example.org/a?x=1&api_key=abcd&y=2",
        "https://example.org/?password=hunter2",
    ],
    "national_id": [
        "536-90-4399",
        "078-05-1120",
        "11010519491231002X",
        "529.982.247-25",
        "12345678Z",
        "X1234567L",
        "1 85 05 78 006 084 91",
        "RSSMRA85T10A562S",
        "2341 2341 2346",
        "PESEL: 44051401359",
        "AB 12 34 56 C",
    ],
    "secret": [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "github_pat_" + "11ABCDEFG0abcdefghij" * 4,
        "xoxb-123456789012-abcdefABCDEF",
        "AIza" + "SyA12" * 7,
        "sk-proj-abcdefghijklmnopqrstuvwx",
        "sk_live_abcdefghijklmnopqrstuvwx",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "glpat-abcdefghij0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    ],
}
CASES = [(kind, example) for kind, examples in FOUND.items() for example in examples]

LEFT = [
    "2024-01-15",
    "15.01.2024",
    "01/15/2024",
    "15-01-2024 10:30:45",
    "20240115",
    "1914-1918",
    "1999-2000-2001",
    "1066 1215 1415 1789",
    "ISBN 978-3-16-148410-0",
    "ISBN 9783161484100",
    "ISBN 0-306-40615-2",
    "ISSN 0378-5955",
    "3.14159265358979",
    "0.1234567890",
    "1,234,567,890",
    "1 234 567 890",
    "1.234.567.890",
    "$4155552671",
    "€ 1.234.567,89",
    "1.2.3",
    "version 1.2.3.4",
    "v10.0.0.1",
    "Chrome/91.0.4472.124",
    "255.255.255.0",
    "127.0.0.1",
    "256.1.1.1",
    "1.2.3.4.5",
    "::1",
    "std::vector",
    "a::b",
    "10:30:45",
    "00:1A:2B:3C:4D:5E",
    "21-14, 28-35",
    "6-4, 3-6, 7-6",
    "4111 1111 1111 1112",
    "1234 5678 9012 3456",
    "0000 0000 0000 0000",
    "DE89 3704 0044 0532 0130 01",
    "GB29 NWBK 6016 1331 9268 18",
    "XX12 3456 7890 1234 56",
    "4294967295",
    "1609459200000",
    "foo@bar",
    "@handle",
    "price 10@2.50",
    "666-12-3456",
    "123-45-67890",
    "110105194912310021",
    "529.982.247-26",
    "12345678A",
    "1 85 05 78 006 084 92",
    "RSSMRA85T10A562T",
    "2341 2341 2347",
    "PESEL 44051401358",
    "doi:10.5281/zenodo.2591652",
    "arXiv:1706.03762",
    "pp. 123-145",
    "51.5074, -0.1278",
    "555-1234",
    "0 1 2 3 4 5 6 7 8 9",
    "https://example.org/?page=2",
    "https://example.org/article/415-555-2671",
    "550e8400-e29b-41d4-a716-446655440000",
    "0123456789abcdef0123456789abcdef",
    "sk-learn",
    "hf_transfer",
]


@pytest.mark.parametrize(("kind", "example"), CASES)
def test_each_kind_is_found_within_a_sentence(kind: str, example: str) -> None:
    text, found = redact(f"Take this: {example} - please.", [kind])
    assert text == f"Take this: [{kind.upper()}] - please."
    assert found == {kind: 1}


@pytest.mark.parametrize("kind", KINDS)
def test_brackets_and_the_end_of_a_sentence_do_not_hide_a_find_and_stay(kind: str) -> None:
    example = FOUND[kind][0]
    assert redact(f"Take it ({example}).", [kind])[0] == f"Take it ([{kind.upper()}])."
    assert redact(f"Take {example}, or {example}.", [kind])[0] == f"Take [{kind.upper()}], or [{kind.upper()}]."


@pytest.mark.parametrize(("kind", "example"), CASES)
def test_nothing_of_a_find_is_left_when_all_kinds_are_looked_for(kind: str, example: str) -> None:
    text, found = redact(f"Take {example} please", KINDS)
    assert text in {f"Take [{kind.upper()}] please" for kind in KINDS}
    assert found.total() == 1


@pytest.mark.parametrize("example", LEFT)
def test_what_only_looks_like_personal_data_stays(example: str) -> None:
    text = f"It says {example} there."
    assert redact(text, KINDS) == (text, {})


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_kinds_that_are_asked_for_are_touched(kind: str) -> None:
    others = [other for other in KINDS if other != kind]
    text = f"Take {FOUND[kind][0]} now"
    assert redact(text, [])[0] == text
    assert redact(text, others)[1][kind] == 0


def test_every_find_is_counted_and_the_text_between_is_kept() -> None:
    text, found = redact("a@b.co, c@d.co; +44 20 7946 0958 or 415-555-2671: 8.8.8.8\n e@f.co", KINDS)
    assert text == "[EMAIL], [EMAIL]; [PHONE] or [PHONE]: [IP]\n [EMAIL]"
    assert found == {"email": 3, "phone": 2, "ip": 1}


def test_a_text_that_was_redacted_stays_as_it_is() -> None:
    once, _ = redact("; ".join(example for _, example in CASES), KINDS)
    assert redact(once, KINDS) == (once, {})


def test_finds_do_not_depend_on_how_much_text_is_around() -> None:
    filler = "Nothing is in here at all. " * 400
    for kind, example in CASES:
        assert redact(f"{filler}{example}; {filler}{example}\n", [kind])[1] == {kind: 2}, example


def test_two_numbers_side_by_side_are_both_found() -> None:
    assert redact("+44 20 7946 0958 +44 20 7946 0959", ["phone"])[0] == "[PHONE] [PHONE]"
    assert redact("4111111111111111 5500000000000004", ["card"])[0] == "[CARD] [CARD]"


def test_a_row_of_numbers_is_no_phone_number() -> None:
    for row in ("01 02 03 04 05 06 07 08 09 10", "05 06 07 08 09 10 11", "300 400 5000 6000"):
        assert redact(row, ["phone"])[0] == row


def test_the_date_after_a_card_does_not_hide_it() -> None:
    assert redact("4111 1111 1111 1111 12/27", ["card"])[0] == "[CARD] 12/27"


@pytest.mark.parametrize("number", ["BE68 5390 0754 7034", "BE71 0961 2345 6769"])
def test_belgian_ibans_are_found_whichever_bank_it_is(number: str) -> None:
    assert redact(f"IBAN {number}.", ["iban"])[0] == "IBAN [IBAN]."


@pytest.mark.parametrize("number", ["01.42.68.53.00", "0612345678", "(11) 91234-5678", "8 (495) 123-45-67"])
def test_phone_numbers_as_the_french_brazilians_and_russians_write_them_are_found(number: str) -> None:
    assert redact(f"Call {number} now", ["phone"])[0] == "Call [PHONE] now"


@pytest.mark.parametrize("before", ["Tel:", "tel:", "phone=", "电话:", "电话"])
def test_a_phone_number_is_found_right_behind_its_label(before: str) -> None:
    assert redact(f"{before}+44 20 7946 0958", ["phone"])[0] == f"{before}[PHONE]"


def test_chinese_around_an_address_is_kept() -> None:
    assert redact("请发邮件到ada@example.org索取资料", ["email"])[0] == "请发邮件到[EMAIL]索取资料"
    long = "这里有很多很多很多很多很多很多很多很多很多很多很多很多很多很多字"
    assert redact(f"写信给我ada@example.org{long}", ["email"])[0] == f"写信给我[EMAIL]{long}"


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        ("national_id", "11010519491231002X"),
        ("phone", "13812345678"),
        ("secret", "AKIAIOSFODNN7EXAMPLE"),
        ("card", "4111111111111111"),
        ("ip", "192.168.0.1"),
    ],
)
def test_chinese_has_no_space_before_a_find(kind: str, example: str) -> None:
    assert redact(f"号码{example}。谢谢", [kind])[0] == f"号码[{kind.upper()}]。谢谢"


def test_all_of_a_private_key_goes() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + ("A1b2" * 16 + "\n") * 200 + "-----END PRIVATE KEY-----"
    assert redact(f"before\n{key}\nafter", ["secret"])[0] == "before\n[SECRET]\nafter"


def test_a_token_longer_than_a_page_leaves_nothing_behind() -> None:
    text = "see https://example.org/?token=" + "a1B2" * 1000 + " there"
    assert redact(text, ["url_credentials"])[0] == "see [URL_CREDENTIALS] there"


def test_the_check_digit_of_luhn() -> None:
    assert luhn("79927398713")
    assert [digit for digit in range(10) if luhn(f"7992739871{digit}")] == [3]


@pytest.mark.parametrize(
    "unit",
    [
        *("4", "4 ", "4-", "1.", ":", "ab:", "ab::", "@", "a@", "a@a.", "AB12CDEF", "A", "w-", "(0", "01 ", "01/ - "),
        *("+1234567890123456789012345678901 ", "+1(2)(3)(4)(5)(6)(7)(8)", "0012345678901234567890123456789 "),
        *("a://", "http://a?a&a", "http://a:", "a://x&token", "x://a:b@", "sk-", "eyJaaaaaaaaaaa.", "-----BEGIN "),
    ],
)
def test_no_text_takes_time_that_grows_with_its_square(unit: str) -> None:
    assert_time_grows_with_length(lambda text: redact(text, KINDS), unit)


def test_each_kind_of_the_config_has_a_rule() -> None:
    assert set(RULES) == set(KINDS)
