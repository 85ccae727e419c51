"""Alerts: one when something is wrong, one when it is over; in the log, the metrics, a webhook."""
