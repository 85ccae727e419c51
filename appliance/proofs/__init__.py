"""Proofs: that the newest backup can be restored, tried now and then."""
