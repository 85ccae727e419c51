"""Every setting once."""

from appliance.config.settings import PREFIX, Address, Config, Setting, load, settings

__all__ = ["PREFIX", "Address", "Config", "Setting", "load", "settings"]
