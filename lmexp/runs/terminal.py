"""What is laid out with rich, as text for a terminal."""

from rich.console import Console, RenderableType


def width_of_terminal() -> int:
    """Return the columns there are, 80 where nobody knows."""
    return _console(None).width


def as_lines(content: RenderableType, *, width: int | None = None) -> str:
    """Return what rich draws, in colour only where a terminal reads it, without blanks at the ends of lines."""
    console = _console(width)
    with console.capture() as captured:
        console.print(content)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _console(width: int | None) -> Console:
    return Console(width=width, highlight=False, markup=False, emoji=False, force_jupyter=False)
