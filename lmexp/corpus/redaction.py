"""Personal data to typed placeholders, by patterns that are looked up in linear time and checks that prove a find.

Names and addresses need a model and are not here. Which numbers are national identifiers is python-stdnum's knowledge.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lmexp.errors import MissingPackageError

LETTER = "A-Za-z\u00c0-\u024f"
"""Of the Latin alphabet, with its accents; a Chinese sentence has no space before an address."""
EMAIL = re.compile(
    rf"(?<![{LETTER}0-9_.+%-])[{LETTER}0-9_+%-](?:[{LETTER}0-9_.+%-]{{0,62}}[{LETTER}0-9_+%-])?"
    rf"@(?:[{LETTER}0-9](?:[{LETTER}0-9_-]{{0,61}}[{LETTER}0-9])?\.){{1,8}}[A-Za-z]{{2,24}}(?![{LETTER}0-9_-])"
)
URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://(?:[^\s/?#:@\"'<>]{1,200}:[^\s/?#@\"'<>]{1,200}@[^\s\"'<>]{0,2000}[^\s\"'<>).,;:!?]"
    r"|[^\s\"'<>]{0,300}?[?&;](?:access_token|api_?key|auth|client_secret|passw(?:or)?d|pwd|secret|token)="
    r"[^\s\"'<>]{0,8000}[^\s\"'<>).,;:!?])",
    re.IGNORECASE | re.ASCII,
)
IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", re.ASCII
)
CARD = re.compile(
    r"[2-6](?<![\d.,+-].)(?:\d{12,18}|\d{3}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?:(?P=gap)\d{3})?"
    r"|\d{3}(?P<dash>[ -])\d{6}(?P=dash)\d{4,5})(?![.,]?\d)",
    re.ASCII,
)
IPV4 = re.compile(r"\d(?<![\d.].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?!\.?\d)", re.ASCII)
IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])", re.ASCII
)
VERSION = re.compile(r"(?:\bv(?:ersion|er)?\.?|\brelease|\bbuild|\bsection|§)\s*$", re.IGNORECASE)
PHONE = re.compile(
    r"(?=[\d+(])(?<![\w.,/#$+-])(?<!\d[:=])(?:(?<!\d[ ])|(?=[+(]))(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]?(?:\(\d{1,5}\)|\d{1,5})){2,6}"  # international
    r"|(?:1[-. ])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[-. ])[2-9]?\d{2}[-. ]\d{4}(?![ ]\d{3})"  # North America
    r"|(?:\(0[1-9]\d{0,4}\)|0[1-9]\d{0,4})(?:[ /-]{1,3}\d{2,8}){1,4}(?![ .-]?\d)"  # with a trunk zero
    r"|0[1-9](?:\.\d{2}){4}|0[67]\d{8,9}"  # French, and mobiles of western Europe
    r"|\(\d{2}\)[ ]?\d{4,5}-\d{4}|8[ ]?\(\d{3}\)[ ]?\d{3}-\d{2}-\d{2}"  # Brazil, Russia
    r"|1[3-9]\d(?:[ -]?\d{4}){2}"  # Chinese mobile
    r")(?![\w%])(?![.,:/-]\d)",
    re.ASCII,
)
SECRET = re.compile(
    r"(?<![\w-])(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{36,}|github_pat_\w{60,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{35}"
    r"|sk-(?:proj-|ant-)?[A-Za-z0-9_]{20,}|sk-(?=[\w-]*\d)[\w-]{20,}|sk_live_\w{20,}|hf_[A-Za-z0-9]{30,}|glpat-[\w-]{20,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})(?![\w-])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{0,20000}?-----END [A-Z ]*PRIVATE KEY-----",
    re.ASCII,
)
SECRET_BEGINS = re.compile("AKIA|gh[pousr]_|github_pat_|xox[abprs]-|AIza|sk-|sk_live_|hf_|glpat-|eyJ|-----BEGIN ")
NATIONAL_IDS: dict[str, re.Pattern[str]] = {
    "us.ssn": re.compile(r"\d(?<![\w-].)\d\d-\d{2}-\d{4}(?![\w-])", re.ASCII),
    "cn.ric": re.compile(r"[1-9](?<![\w.].)\d{16}[\dXx](?![\w.])", re.ASCII),
    "br.cpf": re.compile(r"\d(?<![\w.].)\d\d\.\d{3}\.\d{3}-\d{2}(?![\w-])", re.ASCII),
    "es.dni": re.compile(r"\d(?<![\w-].)\d{7}-?[A-HJ-NP-TV-Z](?![\w-])", re.ASCII),
    "es.nie": re.compile(r"[XYZ](?<![\w-].)-?\d{7}-?[A-HJ-NP-TV-Z](?![\w-])", re.ASCII),
    "fr.nir": re.compile(
        r"[12](?<![\w.].)[ ]?\d{2}[ ]?\d{2}[ ]?\d[\dAB][ ]?\d{3}[ ]?\d{3}[ ]?\d{2}(?![\w.])", re.ASCII
    ),
    "it.codicefiscale": re.compile(r"[A-Z](?<!\w.)[A-Z]{5}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)", re.ASCII),
    "in_.aadhaar": re.compile(r"[2-9](?<![\d-].)(?<!\d[ ].)\d{3}[ -]\d{4}[ -]\d{4}(?![ -]?\d)", re.ASCII),
    "pl.pesel": re.compile(r"PESEL[ :.]{0,3}\d{11}(?!\d)", re.ASCII),
    "gb.nino": re.compile(
        r"[A-CEGHJ-PR-TW-Z](?<!\w.)[A-CEGHJ-NPR-TW-Z](?<!BG|GB|KN|NK|NT|TN|ZZ) ?(?:\d{2} ?){3}[A-D](?!\w)",
        re.ASCII,
    ),
}
"""How each is written; what is found must hold its check digits too, of those that have some (stdnum.us.ssn, ...)."""
WITHOUT_CHECK = {"gb.nino"}
SSN_FOR_SHOW = {"078-05-1120", "219-09-9999", "123-45-6789"}
"""Printed on cards and forms; personal to nobody now, and still no text to learn."""

Check = Callable[[str, str, int], bool]


@dataclass(frozen=True)
class Rule:
    """What a kind looks like, what proves it, and what stands in every text that holds one."""

    pattern: re.Pattern[str]
    is_one: Check
    anchor: re.Pattern[str] | None = None
    """What every find has in it and few texts have: the pattern is only tried near it; None tries it everywhere."""
    before: int = 66
    after: int = 300

    def finds(self, text: str) -> Iterator[re.Match[str]]:
        """Yield what the rule finds, from left to right."""
        for start, end in self._windows(text):
            for match in self.pattern.finditer(text, start, end):
                if self.is_one(match[0], text, match.start()):
                    yield match

    def _windows(self, text: str) -> Iterator[tuple[int, int]]:
        if self.anchor is None:
            yield 0, len(text)
            return
        first, last = 0, 0
        for place in self.anchor.finditer(text):
            start, end = max(last, place.start() - self.before), min(len(text), place.start() + self.after)
            if start > last:
                yield first, last
                first = start
            last = max(last, end)
        yield first, last


def redact(text: str, kinds: Sequence[str]) -> tuple[str, Counter[str]]:
    """Return the text with each find as [KIND], and how many there were of each.

    Example:
        >>> redact("Write to ada@example.org or call +44 20 7946 0958.", ["email", "phone"])
        ('Write to [EMAIL] or call [PHONE].', Counter({'email': 1, 'phone': 1}))
    """
    found: Counter[str] = Counter()
    for kind, rules in RULES.items():
        if kind not in kinds:
            continue
        for rule in rules:
            parts: list[str] = []
            end = 0
            for match in rule.finds(text):
                parts += (text[end : match.start()], f"[{kind.upper()}]")
                end = match.end()
                found[kind] += 1
            text = "".join((*parts, text[end:])) if parts else text
    return text, found


def _always(found: str, text: str, start: int) -> bool:
    return True


def luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of those before it (ISO/IEC 7812-1)."""
    values = [int(digit) for digit in digits]
    return sum(values[-1::-2] + [sum(divmod(2 * value, 10)) for value in values[-2::-2]]) % 10 == 0


def _is_card(found: str, text: str, start: int) -> bool:
    digits = re.sub("[ -]", "", found)
    return len(set(digits)) > 1 and luhn(digits)


def _is_iban(found: str, text: str, start: int) -> bool:
    """Return whether the number has the length of its country and its remainder (ISO 13616)."""
    return bool(_stdnum("iban").is_valid(found, check_country=False))


def _is_ipv4(found: str, text: str, start: int) -> bool:
    if VERSION.search(text[max(0, start - 12) : start]):
        return False
    return _is_address(found)


def _is_ipv6(found: str, text: str, start: int) -> bool:
    return any(character.isdigit() for character in found) and len(found) > 4 and _is_address(found)


def _is_address(found: str) -> bool:
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or str(address).startswith("255."))


DAY = re.compile(r"^\d\d[-/ ]\d\d[-/ ]\d{2,4}$")
YEARS = re.compile(r"^\(?(?:1[5-9]|20)\d\d\)?[-\u2013/ ]")


def _is_phone(found: str, text: str, start: int) -> bool:
    """Return whether it has the digits of a number that can be dialled (ITU-T E.164: at most 15)."""
    digits = re.sub(r"\D", "", found)
    if YEARS.match(found):
        return False
    if found.startswith(("+", "00")):
        return 8 <= len(digits.removeprefix("00")) <= 15
    if found.lstrip("(").startswith("0"):
        return 9 <= len(digits) <= 13 and not DAY.match(found)
    return 10 <= len(digits) <= 11


def _is_national_id(name: str) -> Check:
    def is_one(found: str, text: str, start: int) -> bool:
        if name in WITHOUT_CHECK:
            return True
        found = found.removeprefix("PESEL").strip(" :.")
        return found in SSN_FOR_SHOW or bool(_stdnum(name).is_valid(found))

    return is_one


@cache
def _stdnum(name: str) -> Any:
    """Return the module that checks a kind of number: stdnum.us.ssn."""
    try:
        from stdnum import br, cn, es, fr, iban, in_, it, pl, us  # noqa: F401
        from stdnum.util import get_cc_module
    except ModuleNotFoundError:
        raise MissingPackageError("python-stdnum", "corpus") from None
    if name == "iban":
        return iban
    country, _, kind = name.partition(".")
    return get_cc_module(country.rstrip("_"), kind)


RULES: dict[str, list[Rule]] = {
    "secret": [Rule(SECRET, _always, SECRET_BEGINS, before=1, after=20_200)],
    "url_credentials": [Rule(URL, _always, re.compile("://"), before=20, after=10_000)],
    "email": [Rule(EMAIL, _always, re.compile("@"))],
    "iban": [Rule(IBAN, _is_iban)],
    "national_id": [Rule(pattern, _is_national_id(name)) for name, pattern in NATIONAL_IDS.items()],
    "card": [Rule(CARD, _is_card)],
    "ip": [Rule(IPV4, _is_ipv4), Rule(IPV6, _is_ipv6, re.compile(":[0-9A-Fa-f]{0,4}:"), before=40, after=60)],
    "phone": [Rule(PHONE, _is_phone)],
}
"""In the order in which they are looked for: the surer first, for a placeholder is never looked at again."""
