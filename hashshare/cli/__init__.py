"""The command line: the only place that prints, reads the environment, or exits."""

from hashshare.cli.app import main

__all__ = ["main"]
