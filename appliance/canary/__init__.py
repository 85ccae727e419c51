"""The canary: the appliance's own messages, sent to its public address, which must become rows."""
