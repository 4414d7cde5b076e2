"""Figures: a value, what it is compared with, and whether it is as good as it must be."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure, or its ratio to the reference, must be.

    Attributes:
        of: Whether ``limit`` is about the value or about the ratio.
        size: The least size at which it is meant; below, it is shown and not judged.
    """

    kind: Literal["at least", "at most"]
    limit: float
    of: Literal["value", "ratio"] = "value"
    size: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.limit:g}{'x' if self.of == 'ratio' else ''}"

    def is_met(self, value: float, ratio: float | None, size: int) -> bool | None:
        """Return whether it is met; None where it cannot be said."""
        judged = value if self.of == "value" else ratio
        if judged is None or size < self.size:
            return None
        return judged >= self.limit if self.kind == "at least" else judged <= self.limit


@dataclass(frozen=True, slots=True)
class Reference:
    """What a figure is compared with, in the same unit and measured in the same run."""

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of its repeats.

    Attributes:
        value: In ``unit``.
        reference: In ``unit``, of ``reference_name``; None if there is none.
        ratio: ``value`` to ``reference``.
        target: As text.
        met: None when there is no target, or it is meant for a larger size.
        work: What was done.
        low: The smallest of the repeats.
        high: The largest.
        repeats: How many there were.
    """

    name: str
    value: float
    unit: str
    reference: float | None
    ratio: float | None
    target: str | None
    met: bool | None
    work: str
    reference_name: str | None
    low: float
    high: float
    repeats: int


def row(
    name: str,
    values: float | Sequence[float],
    unit: str,
    *,
    work: str,
    size: int,
    reference: Reference | None = None,
    target: Target | None = None,
) -> Row:
    """Return the row of one figure, from its repeats."""
    many = [values] if isinstance(values, int | float) else list(values)
    value = statistics.median(many)
    ratio = value / reference.value if reference is not None and reference.value else None
    return Row(
        name=name,
        value=value,
        unit=unit,
        reference=None if reference is None else reference.value,
        ratio=ratio,
        target=None if target is None else str(target),
        met=None if target is None else target.is_met(value, ratio, size),
        work=work,
        reference_name=None if reference is None else reference.name,
        low=min(many),
        high=max(many),
        repeats=len(many),
    )


def print_table(rows: Sequence[Row], title: str) -> None:
    """Print the rows for people."""
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for heading in ("median", "spread", "reference", "ratio", "target", "met"):
        table.add_column(heading, justify="right")
    for one in rows:
        spread = f"{_number(one.low)}–{_number(one.high)}" if one.repeats > 1 else ""
        reference = "" if one.reference is None else _number(one.reference)
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}x"
        met = {True: "yes", False: "NO", None: ""}[one.met]
        value = f"{_number(one.value)} {one.unit}"
        table.add_row(one.name, value, spread, reference, ratio, one.target or "", met)
    console = Console() if Console().is_terminal else Console(width=150)
    console.print(table)
    for one in rows:
        if one.reference_name is not None:
            console.print(f"reference of {one.name!r}: {one.reference_name}", highlight=False)


def write_json(rows: Iterable[Row], path: Path) -> None:
    """Write the rows for programs: a list of objects."""
    path.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")


def read_json(path: Path) -> list[Row]:
    """Return what ``write_json`` wrote."""
    return [Row(**one) for one in json.loads(path.read_text())]


def to_markdown(runs: Mapping[str, Sequence[Row]]) -> str:
    """Return one table of several runs, as it stands in docs/performance.md."""
    names = list(dict.fromkeys((one.name, one.unit) for rows in runs.values() for one in rows))
    lines = [
        "| Figure | Unit | " + " | ".join(runs) + " | Target | Met |",
        "|---" * (len(runs) + 4) + "|",
    ]
    for name, unit in names:
        found = [next((one for one in rows if one.name == name), None) for rows in runs.values()]
        known = [one for one in found if one is not None]
        met = " / ".join("not run" if one is None else _judgement(one) for one in found)
        target = known[0].target or ""
        cells = [name, unit, *("not run" if one is None else _cell(one) for one in found)]
        lines.append("| " + " | ".join([*cells, target, met if target else ""]) + " |")
    return "\n".join(lines)


def _cell(one: Row) -> str:
    spread = f" ({_number(one.low)}–{_number(one.high)})" if one.repeats > 1 else ""
    ratio = "" if one.ratio is None else f", {one.ratio:.2f}x"
    return f"{_number(one.value)}{spread}{ratio}"


def _judgement(one: Row) -> str:
    return {True: "yes", False: "**no**", None: "not judged"}[one.met]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
