"""Bodies as they come, made into messages: codings, charsets, records, forms, events. Pure."""
