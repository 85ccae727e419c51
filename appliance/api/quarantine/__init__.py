"""The quarantine: messages that failed a check, kept as dead letters within a budget."""
