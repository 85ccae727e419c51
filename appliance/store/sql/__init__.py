"""Parts of the store that are the same SQL for every engine; each engine lends them a database."""
