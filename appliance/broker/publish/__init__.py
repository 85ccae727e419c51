"""The way into the broker: publish with confirms."""
