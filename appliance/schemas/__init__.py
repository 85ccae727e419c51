"""JSON Schema per topic: what a topic's messages must look like."""
