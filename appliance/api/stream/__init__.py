"""Streams: messages are shown as they are stored, by Server-Sent Events."""
