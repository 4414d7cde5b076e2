"""A replica: verified local copies of lists in one SQLite file, kept as buckets.

Used by the publisher, which signs the roots that this code computes, and by members.
"""

from hashshare.replica.file import Replica
from hashshare.replica.reading import BucketProof, Reading
from hashshare.replica.store import ListState
from hashshare.replica.writing import Writing

__all__ = ["BucketProof", "ListState", "Reading", "Replica", "Writing"]
