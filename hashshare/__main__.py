"""Runs the command: ``python -m hashshare``."""

from hashshare.cli import main

if __name__ == "__main__":
    main()
