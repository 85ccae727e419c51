"""The operating system: files, locks, disk space, memory, ports, signs of life."""
