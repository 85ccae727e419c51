"""Handlers: functions of the operator's that get messages before these become rows."""
