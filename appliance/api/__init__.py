"""HTTP: the front door for publishing, and the Flask application behind it."""
