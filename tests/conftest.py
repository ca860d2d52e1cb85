"""Settings for every test."""

import os

from hypothesis import settings

# By default a property test repeats exactly: red means a change, not luck. HYPOTHESIS_PROFILE=explore searches.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
