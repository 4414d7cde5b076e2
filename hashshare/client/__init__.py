"""The library for members: push, pull, watch, look up; everything pulled is verified."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashshare.client.client import Client
    from hashshare.client.profile import Profile
else:
    _MODULES: Final = {"Client": "client", "Profile": "profile"}

    def __getattr__(name: str) -> object:
        """Import a public name when it is asked for: a profile is read without the network."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


__all__ = ["Client", "Profile"]
