"""The command and its groups."""

import typer

from hashshare import __version__
from hashshare.cli import hash_sets, joining, members, pulling, pushing, serving
from hashshare.cli.output import EXIT_CODES

app = typer.Typer(
    name="hashshare",
    help="Share signed, verifiable sets of hashes of known abuse material.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serving, joining, pushing, pulling):
    module.register(app)
app.add_typer(members.app)
app.add_typer(hash_sets.sets)
app.add_typer(hash_sets.views)
app.add_typer(pulling.replica)


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


def main() -> None:
    """Run the command line."""
    app()
