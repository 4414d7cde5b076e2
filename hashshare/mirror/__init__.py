"""A mirror: a verified copy of what the coalition's server gives, served from another place.

Nobody has to trust it: who reads from it verifies the same as from the server.
"""

from hashshare.mirror.archive import Archive
from hashshare.mirror.serving import MirrorServer
from hashshare.mirror.syncing import Mirror, Synced, SyncProgress

__all__ = ["Archive", "Mirror", "MirrorServer", "SyncProgress", "Synced"]
