import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
if str(EXAMPLES) not in sys.path:  # services of the worked examples, as their user would name them
    sys.path.insert(0, str(EXAMPLES))
