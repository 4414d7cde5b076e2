"""Charts as plain geometry; templates draw them as SVG, without scripts or styles of their own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hashshare.wire.report import ReportSize

WIDTH: Final = 320
HEIGHT: Final = 110
_TOP: Final = 18
_BOTTOM: Final = 106


@dataclass(frozen=True, slots=True)
class LineChart:
    """How one number went, as steps from left to right.

    Attributes:
        title: Of what.
        line: Points of a polyline, in units of WIDTH by HEIGHT.
        area: The same, closed along the bottom.
        first: The number at the beginning; ``last`` at the end; ``highest`` of all.
        begin: Of the time, and ``end``.
    """

    title: str
    line: str
    area: str
    first: int
    last: int
    highest: int
    begin: str
    end: str


def draw_sizes(sizes: Iterable[ReportSize], *, begin: str, end: str, steps: int) -> list[LineChart]:
    """Return a chart for each list, of its entries over time.

    Args:
        sizes: At some of ``steps`` + 1 even moments; a list begins later than others may.
        begin: The first moment.
        end: The last moment.
        steps: Moments less one.
    """
    by_list: dict[str, list[int]] = {}
    for size in sizes:
        by_list.setdefault(size.list_name, []).append(size.count)
    # A list that is younger has no moments at the beginning.
    return [
        _draw(name, [0] * (steps + 1 - len(counts)) + counts, begin, end)
        for name, counts in by_list.items()
    ]


def percent(part: int, whole: int) -> int:
    """Return how much of ``whole`` a part is, 0 to 100; the least that is something is 1."""
    return 0 if whole <= 0 or part <= 0 else max(1, min(100, round(100 * part / whole)))


def _draw(title: str, counts: Sequence[int], begin: str, end: str) -> LineChart:
    highest = max(counts, default=0)
    points: list[str] = []
    before: int | None = None
    for step, count in enumerate(counts):
        x = round(WIDTH * step / max(1, len(counts) - 1), 1)
        if before is not None and before != count:
            # It held the former number until now.
            points.append(f"{x},{_height_of(before, highest)}")
        points.append(f"{x},{_height_of(count, highest)}")
        before = count
    line = " ".join(points)
    return LineChart(
        title=title,
        line=line,
        area=f"0,{_BOTTOM} {line} {WIDTH},{_BOTTOM}",
        first=counts[0] if counts else 0,
        last=counts[-1] if counts else 0,
        highest=highest,
        begin=begin,
        end=end,
    )


def _height_of(count: int, highest: int) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * count / max(1, highest), 1)
