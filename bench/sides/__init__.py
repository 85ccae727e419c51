"""What is measured: each side is the real programs of one design, started from scratch."""
