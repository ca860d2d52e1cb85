"""The worked examples are found as their user finds them: by their directory on the path."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))
