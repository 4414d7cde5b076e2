"""What commands write, and how they end.

Data goes to standard output; with ``--json`` as one object a line. All else goes to standard
error: messages begin with ``hashshare:``, in lower case and without a full stop; an error is one
line, what was not verified is named as in docs/problems.md, and at most two hints follow.
Progress is drawn on a terminal only. Nothing is written that was not verified, and no existing
file is overwritten without being asked.
"""

import json
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeVar

import typer

from hashshare import errors
from hashshare.errors import HashshareError
from hashshare.wire.problem import PROBLEM_TYPES

T = TypeVar("T")

REPORT_SECONDS: Final = 30.0


class ExitCode(IntEnum):
    """How a command ends."""

    DONE = 0
    FAILED = 1
    MISUSED = 2
    NOT_VERIFIED = 3
    NOT_REACHABLE = 4
    INTERRUPTED = 130


EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed, 2 misused, 3 not verified, 4 not reachable, 130 interrupted."
)

_HINTS: Final[dict[type[HashshareError], str]] = {
    errors.BatchFaultsError: "nothing was submitted; mend these lines and push again",
    errors.EquivocationError: "the server showed two histories: keep the evidence, stop, and tell "
    "the other members",
    errors.RollbackError: "the server offers less than before: it may have been restored from a "
    "backup; ask its operator",
    errors.OmissionError: "the server has dropped what it gave a receipt for: keep the evidence, "
    "and tell the other members",
    errors.KeyMisuseError: "if another machine of yours made it: hashshare chain adopt; if "
    "not, ask an admin: hashshare member retire-key",
    errors.QuorumMissingError: "wait for the witnesses, or ask what they see: hashshare compare",
    errors.FreezeError: "news may be withheld: ask another member or a witness: hashshare compare",
    errors.VerificationError: "nothing was changed; if it happens again, tell the operator and "
    "another member",
    errors.UnavailableError: "what was under way is kept; run the same command again",
    errors.NotEnrolledError: "enrol with an invitation from an admin",
    errors.SuspendedError: "ask an admin of the coalition",
    errors.ExpiredError: "ask an admin for an invitation, and enrol again",
    errors.ReplicaDamagedError: "try: hashshare replica check --repair; or delete replica.sqlite "
    "and pull",
}


@dataclass(slots=True)
class Output:
    """How this run of the command writes."""

    as_json: bool = False

    def record(self, fields: Mapping[str, object], *, text: str | None = None) -> None:
        """Write one thing: an object, or a line, or lines of names and values."""
        if self.as_json:
            print(json.dumps(fields, separators=(",", ":")))
        elif text is not None:
            print(text)
        else:
            width = max(map(len, fields), default=0)
            for name, value in fields.items():
                print(f"{name.replace('_', ' '):{width}}  {_plain(value)}")

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
        """Write several things of a kind."""
        if self.as_json:
            for row in rows:
                print(json.dumps(row, separators=(",", ":")))
            return
        # Here, since most commands draw nothing, and need not wait for what draws.
        from hashshare.cli.drawing import print_table

        names = [column.replace(" ", "_") for column in columns]
        print_table(columns, [[_plain(row[name]) for name in names] for row in rows])

    def say(self, message: str) -> None:
        """Tell the person something that is no data."""
        print(f"hashshare: {message}", file=sys.stderr)


output: Final = Output()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work, and end the process with the right code if it fails."""
    # Here, since help, completion and a look-up in the replica wait for nothing.
    import asyncio

    with ending():
        return asyncio.run(work)


@contextmanager
def ending() -> Iterator[None]:
    """Turn errors into messages and exit codes."""
    try:
        yield
    except HashshareError as error:
        report(error)
        raise typer.Exit(exit_code_of(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    except BrokenPipeError as error:
        # The reader of standard output has had enough.
        sys.stderr.close()
        raise typer.Exit(ExitCode.DONE) from error
    except OSError as error:
        print(f"hashshare: error: {error.strerror}: {error.filename}", file=sys.stderr)
        raise typer.Exit(ExitCode.FAILED) from error


def exit_code_of(error: HashshareError) -> ExitCode:
    """Return how a command that met ``error`` ends."""
    if isinstance(error, errors.VerificationError):
        return ExitCode.NOT_VERIFIED
    if isinstance(error, errors.UnavailableError | errors.TooManyRequestsError):
        return ExitCode.NOT_REACHABLE
    return ExitCode.FAILED


def report(error: HashshareError) -> None:
    """Write an error, what is known of it, and what to do."""
    print(f"hashshare: error: {error}", file=sys.stderr)
    if isinstance(error, errors.BatchFaultsError):
        for fault in error.faults:
            where = f"line {fault.line}" + (f", {fault.field}" if fault.field else "")
            print(f"  {where}: {fault.reason}", file=sys.stderr)
        if error.total > len(error.faults):
            print(f"  … and {error.total - len(error.faults)} more", file=sys.stderr)
    if isinstance(error, errors.VerificationError):
        name = PROBLEM_TYPES[type(error)].name
        print(f"hashshare: what failed: {name} (docs/problems.md#{name})", file=sys.stderr)
    for note in getattr(error, "__notes__", []):
        print(f"hashshare: {note}", file=sys.stderr)
    hint = next((_HINTS[kind] for kind in type(error).__mro__ if kind in _HINTS), None)
    if hint is not None:
        print(f"hashshare: hint: {hint}", file=sys.stderr)


@contextmanager
def shown(look: Callable[[], tuple[str, int, int | None, bool]]) -> Iterator[None]:
    """Draw progress while the block runs: a bar on a terminal, else a line now and then.

    Args:
        look: Gives what is going on, how much is done, of how much, and whether in bytes.
    """
    stopped = threading.Event()
    target = _tell
    if sys.stderr.isatty():
        from hashshare.cli.drawing import draw  # here for the reason that table has

        target = draw
    thread = threading.Thread(target=target, args=(look, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _tell(look: Callable[[], tuple[str, int, int | None, bool]], stopped: threading.Event) -> None:
    while not stopped.wait(REPORT_SECONDS):
        what, done, total, in_bytes = look()
        unit = " bytes" if in_bytes else ""
        of = "" if total is None else f" of {total:,}"
        output.say(f"{what}: {done:,}{of}{unit}")


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return str(value)
