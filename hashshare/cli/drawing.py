"""What is drawn rather than written: tables, and progress on a terminal."""

import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, cut to the terminal's width; whole where another program reads it."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 1000
    # Cells are others' words, and no markup.
    Console(width=width, markup=False, emoji=False).print(table)


def draw(look: Callable[[], tuple[str, int, int | None, bool]], stopped: threading.Event) -> None:
    """Draw a bar until it is stopped; ``look`` is as ``output.shown`` takes it."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        while not stopped.wait(0.1):
            what, done, total, _ = look()
            progress.update(task, description=what, completed=done, total=total)
