"""Units that are levers of the host itself. They live in its process and speak the wire all the same."""
