"""The server as HTTP sees it: TLS listeners, who the peer is, problems, and the resources."""

from hashshare.http.context import Services
from hashshare.http.server import Endpoints, Server, ServerLimits

__all__ = ["Endpoints", "Server", "ServerLimits", "Services"]
