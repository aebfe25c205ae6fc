"""The ways in over HTTP: one worker that listens, and reaches everything else through `smol.client`."""
