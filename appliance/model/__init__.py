"""What everything talks about: messages, ids, the ledger, quantities. Pure, no I/O."""
