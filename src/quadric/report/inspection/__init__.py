"""The report of an inspection: table, figures and HTML, all from its records."""
