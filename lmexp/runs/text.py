"""What run folders hold, made fit for a terminal: other people's names and texts may carry escape sequences."""

from typing import Any

BARS = "▁▂▃▄▅▆▇█"


def printable(text: str) -> str:
    """Return a text without control characters, which a terminal would obey; line ends and tabs stay."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def one_line(text: str) -> str:
    """Return a text without control characters on a single line."""
    return printable(" ".join(text.split()))


def number(value: Any) -> str:
    """Return a number for people: thousands with commas, five digits of a fraction; other things as they are.

    Example:
        >>> number(1234567), number(0.00042), number(1.98765432)
        ('1,234,567', '0.00042', '1.9877')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false"}.get(value, "")  # type: ignore[arg-type]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        large = abs(value) >= 1000
        return f"{value:,.0f}" if large and abs(value) < 1e15 else f"{value:.5g}"
    if isinstance(value, list):
        return ",".join(map(number, value))
    return one_line(str(value))


def sparkline(values: list[float], width: int = 16) -> str:
    """Return a curve in one line of bars, lowest to highest; "" for fewer than two values.

    Example:
        >>> sparkline([4.0, 3.0, 2.0, 1.0], width=4)
        '█▆▃▁'
    """
    if len(values) < 2:
        return ""
    step = max(1.0, len(values) / width)
    chosen = [values[min(len(values) - 1, int((place + 1) * step) - 1)] for place in range(min(width, len(values)))]
    low, high = min(chosen), max(chosen)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in chosen)
