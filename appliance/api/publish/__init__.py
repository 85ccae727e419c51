"""POST /v1/topics/{topic}/messages, on the event loop."""
