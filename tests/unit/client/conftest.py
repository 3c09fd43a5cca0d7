"""Hypothesis counts no milliseconds here: machines that test are busy."""

from hypothesis import settings

settings.register_profile("client", deadline=None)
settings.load_profile("client")
