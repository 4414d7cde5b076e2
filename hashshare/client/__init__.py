"""The library for members: push, pull, watch, look up; everything pulled is verified."""

from hashshare.client.client import Client
from hashshare.client.profile import Profile

__all__ = ["Client", "Profile"]
