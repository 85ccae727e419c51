"""Metrics: the numbers of all processes, added up, and their text for Prometheus."""
