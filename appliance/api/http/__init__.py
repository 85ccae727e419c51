"""HTTP: the connection, the bridge to Flask, the shape of errors."""
