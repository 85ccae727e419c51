"""The crash drill: a scratch appliance under load, its processes killed, every message counted."""
