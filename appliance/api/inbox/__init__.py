"""Inbox addresses: POST /in/{secret}, for senders that can't send a token."""
