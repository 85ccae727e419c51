"""Messages, ids, the ledger, retention rules, quantities: pure, no I/O."""
