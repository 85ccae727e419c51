"""The Flask application's blueprints. A view parses, calls one function, answers."""
