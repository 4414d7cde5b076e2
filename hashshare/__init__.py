"""Share signed, verifiable sets of hashes of known abuse material between organizations."""

__version__ = "0.1.0"
