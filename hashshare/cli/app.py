"""The command and its groups.

Only the module of the command that is run is imported: a look-up should not wait for the
server's libraries.
"""

import sys
from importlib import import_module
from typing import Final

import typer

from hashshare import __version__
from hashshare.cli.output import EXIT_CODES

_MODULES: Final = {
    "serving": {"init", "serve"},
    "recovering": {"recover"},
    "joining": {"enrol", "renew", "status"},
    "certificates": {"certificate"},
    "members": {"member"},
    "hash_sets": {"hash-set"},
    "views": {"view"},
    "pushing": {"push", "withdraw", "dispute", "rule", "sandbox"},
    "cases": {"case"},
    "retraction": {"retraction"},
    "feedback": {"feedback"},
    "auditing": {"checkpoint", "compare", "audit", "redact", "start-over", "chain"},
    "witnessing": {"witness"},
    "governing": {"governance"},
    "rotating": {"rotate"},
    "trusting": {"trust"},
    "reporting": {"trail", "report"},
    "browsing": {"admin"},
    "noticing": {"notices"},
    "mirroring": {"mirror"},
    "pulling": {"pull", "lookup", "provenance", "export", "replica"},
}
"""Each module of commands, in the order of ``--help``, and what it registers."""

app = typer.Typer(
    name="hashshare",
    help="Share signed, verifiable sets of hashes of known abuse material.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:  # as typer calls it
    if value:
        print(f"hashshare {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(  # as typer calls it
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Share signed, verifiable sets of hashes of known abuse material."""
    del version


def build(words: list[str]) -> typer.Typer:
    """Return the command, with the modules that running ``words`` takes; all for help."""
    called = words[0] if words else ""
    chosen = [module for module, commands in _MODULES.items() if called in commands]
    for module in chosen or _MODULES:
        import_module(f"hashshare.cli.{module}").register(app)
    return app


def main() -> None:
    """Run the command line."""
    build(sys.argv[1:])()
