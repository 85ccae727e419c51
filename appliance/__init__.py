"""Queue Appliance: a durable HTTP inbox. POST a message, find it as a row of a SQLite file."""
