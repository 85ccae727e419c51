"""Watching the processes: supervisord's event listener, probes and process states."""
