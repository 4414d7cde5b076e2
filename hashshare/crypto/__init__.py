"""Bytes and keys: canonical JSON, envelopes, notes, the Merkle tree. Knows nothing of hash sets."""
