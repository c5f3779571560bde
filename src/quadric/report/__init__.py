"""Tables, figures and HTML from records. Reads, never trains."""
