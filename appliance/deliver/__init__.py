"""Deliveries: stored messages go on to endpoints, at least once, by a cursor moved afterwards."""
