"""The Model Context Protocol: operations as tools. Its SDK is heavy, so it has a worker of its own, on demand."""
