"""The command and its groups.

Only the module of the command that is run, completed, or explained is imported: a look-up should
not wait for the server's libraries. What the others are called stands here.
"""

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from hashshare import __version__
from hashshare.cli.output import EXIT_CODES

COMMANDS: Final = {
    "init": (
        "serving",
        "Make a coalition: CA, log key, publisher key, governance key, settings, first admin.",
    ),
    "serve": (
        "serving",
        "Serve the API over TLS 1.3 with required client certificates, until SIGTERM.",
    ),
    "recover": (
        "recovering",
        "Bring back what a restored database lacks, from another server or a mirror.",
    ),
    "enrol": (
        "joining",
        "Join a coalition: make keys on this machine, have them certified, write a profile.",
    ),
    "renew": (
        "joining",
        "Replace the TLS key and certificate by new ones, without an admin; for cron.",
    ),
    "status": (
        "joining",
        "Show who you are, which lists you may read, and how fresh your replica is.",
    ),
    "push": ("pushing", "Submit hashes."),
    "withdraw": (
        "pushing",
        "Take back what you said: of hashes in files, of records by id, or of one submission.",
    ),
    "dispute": (
        "pushing",
        "Say that hashes are wrongly listed; enough disputes take them out of a view.",
    ),
    "rule": (
        "pushing",
        "Decide about hashes, as a reviewer or an admin; a signed statement like all else.",
    ),
    "sandbox": (
        "pushing",
        "Write made-up hashes to a file, for trying push, dispute and withdraw in the sandbox.",
    ),
    "feedback": (
        "feedback",
        "Report what hashes did for you in a month; others see sums, and not whose they are.",
    ),
    "checkpoint": (
        "auditing",
        "Print the newest checkpoint that you have verified, to be sent to other members.",
    ),
    "compare": (
        "auditing",
        "Check that you and others were shown one history; exits with 3, and keeps both, if not.",
    ),
    "audit": ("auditing", "Replay the log and its batches, and compare every published list."),
    "redact": ("auditing", "Have a batch deleted because the law demands it; for admins."),
    "start-over": (
        "auditing",
        "Set aside what was seen of the log and the lists, so that the next pull begins anew.",
    ),
    "trail": (
        "reporting",
        "Show or export the audit trail: submissions, pulls, admins' acts, refusals.",
    ),
    "report": (
        "reporting",
        "Make a transparency report: what the coalition did in a time, in numbers.",
    ),
    "notices": ("noticing", "Tell what a person should hear of, once."),
    "pull": ("pulling", "Bring the replica up to date: verified, or unchanged."),
    "lookup": ("pulling", "Say whether hashes are in a list; exits with 1 if none is."),
    "provenance": (
        "pulling",
        "Show who ever said what of a hash; signatures and places in the log are verified here.",
    ),
    "export": ("pulling", "Write a list of the replica, for a matcher to eat."),
    "certificate": (
        "certificates",
        "Give scripts and data centres certificates of their own, and revoke them one at a time.",
    ),
    "member": ("members", "Invite members, look at them, suspend and revoke them."),
    "hash-set": ("hash_sets", "Create hash sets and look at them."),
    "view": ("views", "Create and change the views of a hash set."),
    "vocabulary": (
        "vocabularies",
        "Vocabularies of classifications, and how the terms of one map to those of another.",
    ),
    "case": ("cases", "Disputes that concern you: look, answer, decide."),
    "retraction": ("retraction", "See who still holds what was taken out."),
    "chain": ("auditing", "Your own submissions, as the log has them."),
    "witness": (
        "witnessing",
        "Witness that the log only grows, so that nobody has to trust the server.",
    ),
    "governance": (
        "governing",
        "Who must sign the admins' acts, and signing those that wait for another admin.",
    ),
    "rotate": (
        "rotating",
        "Replace the keys of the coalition, while its server and its members go on.",
    ),
    "trust": ("trusting", "Keep the trust root: by whose signatures members believe new keys."),
    "admin": ("browsing", "For admins and auditors: the console in a browser."),
    "mirror": (
        "mirroring",
        "Keep and serve a verified copy of the log and the lists; nobody has to trust it.",
    ),
    "replica": ("pulling", "Look after the local replica."),
}
"""Each command and group, in the order of ``--help``: its module, and how its own help begins."""


class _Group(TyperGroup):
    """A group of commands, all of whose own options are flags."""

    def get_params(self, ctx: Any) -> Any:  # noqa: ANN401 # of typer's own
        """Return the options, which are off where typer leaves them undecided.

        An option that is None typer gives to pydantic, which is slower to import than help is to
        show; one that is off it takes as it is.
        """
        options = super().get_params(ctx)
        for option in options:
            option.default = option.default or False
        return options


class _Commands(_Group):
    """Commands of which only the name and a line of help are known until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 # of typer's own
        """Find the command that is called or completed; before, import what it is."""
        if args and args[0] in COMMANDS:
            self.load(COMMANDS[args[0]][0])
        return super().resolve_command(ctx, args)

    def load(self, module: str) -> None:
        """Take the commands of a module for what is known of them."""
        part = typer.Typer(rich_markup_mode=None)
        import_module(f"hashshare.cli.{module}").register(part)
        for group in part.registered_groups:
            group.cls = _Group
        self.commands.update(typer.main.get_group(part).commands)


app = typer.Typer(
    name="hashshare",
    cls=_Commands,
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


def _unknown_yet() -> None:
    """Stand for a command until it is loaded."""


for _name, (_, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_unknown_yet)


def main() -> None:
    """Run the command line."""
    app()
