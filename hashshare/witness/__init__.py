"""A witness of the log: it cosigns what only grew, whether it asks the server or is asked."""
