"""How many examples a law is tried with that needs a database for each."""

from hypothesis import HealthCheck, settings

with_database = settings(
    max_examples=max(10, settings().max_examples // 5),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""A fifth of the profile's: each example costs as much as a hundred in memory."""
