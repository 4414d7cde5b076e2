"""Audit: the log and its batches replayed from the first leaf, every published root compared."""

from collections.abc import Iterator

from benchmarks.meter import MIB
from benchmarks.rows import Row, Target, row
from benchmarks.stage import Stage, timed_command


def run(stage: Stage) -> Iterator[Row]:
    """Yield what an audit takes."""
    measured = [
        timed_command("audit", profile=stage.admin, fresh="audit") for _ in range(stage.repeats)
    ]
    work = "the whole command, on all that was submitted before"
    yield row("audit by replay", [taken for taken, _ in measured], "s", work=work,
              size=stage.size)  # fmt: skip
    yield row("audit by replay, client's peak memory", [memory / MIB for _, memory in measured],
              "MiB", work=work, size=stage.size, target=Target("at most", 512))  # fmt: skip
