"""A hundred examples of each target in every run of the tests; `make fuzz` tries thousands."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
