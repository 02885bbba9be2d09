"""The report: every claim about a collection judged, and one file that shows it all without the program."""
