"""Using Smol from Python: with a running host (`connect`) or a private one (`local`), async or not."""

from smol.client.blocking import BlockingClient
from smol.client.connector import Connector, connect, local
from smol.client.session import Client

__all__ = ["BlockingClient", "Client", "Connector", "connect", "local"]
