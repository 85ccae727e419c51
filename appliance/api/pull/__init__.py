"""Pull with leases: consumers ask for messages of a subscription, and acknowledge them."""
