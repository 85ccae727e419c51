"""How the commands' results read."""
