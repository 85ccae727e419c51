"""Signatures of webhooks: pure checks of who sent a request, one module for each way to sign."""
