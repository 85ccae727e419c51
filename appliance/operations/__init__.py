"""The operations of an administrator on the running appliance: checks, backups, letters."""
