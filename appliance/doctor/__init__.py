"""Looks at what the appliance stands on, and says what to do about what is wrong with it."""
