"""The console's pages: each reads an address, asks the parts, and fills a template."""
