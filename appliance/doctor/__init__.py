"""Checks of the machine and the data folder, each with advice where something is wrong."""
