"""What Smol costs, beside the bare work and peers, in the same run. `make bench` runs all."""
