"""Authorization: principals, and the rights that they have."""
