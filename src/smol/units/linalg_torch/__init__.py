"""The part of linalg that needs PyTorch, in a worker of its own, since PyTorch costs more than all the rest."""
