"""The command line, for machines without a screen: one module a command."""
