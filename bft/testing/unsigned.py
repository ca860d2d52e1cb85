"""The protocol without signatures, to measure what they cost: it guarantees nothing, and no cluster may run so.

Every signature becomes 64 zero bytes, and every one offered is taken for good.  It lives here and not behind a setting,
so that no configuration of a replica or a client reaches it: only code that imports it does, in its own process.  A
replica that runs in earnest refuses whatever is signed so.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest.mock import patch

from crypto import certificates, keys

UNSIGNED: Final = bytes(64)


@contextmanager
def signatures_left_out() -> Iterator[None]:
    """Inside the block this process neither makes nor verifies a signature.

    Replaces the function wherever a module of this project holds it, but for certificates: who connects is as certain
    as ever.
    """
    real = keys.verify
    with ExitStack() as stack:
        stack.enter_context(patch.object(keys.PrivateKey, "sign", lambda *_: UNSIGNED))
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in ("bft", "crypto") or module is certificates:
                continue
            for attribute in [known for known, value in vars(module).items() if value is real]:
                stack.enter_context(patch.object(module, attribute, lambda *_: True))
        yield
