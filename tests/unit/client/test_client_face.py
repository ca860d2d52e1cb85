"""The public face: `import bft`."""

import subprocess
import sys

import pytest

import bft


def test_importing_bft_imports_nothing_of_the_client_before_it_is_asked_for():
    script = "import bft, sys; assert not any(m.startswith('bft.') for m in sys.modules); bft.connect, bft.sync"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_can_be_had_and_others_cannot():
    assert all(getattr(bft, name) is not None for name in dir(bft))
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        bft.conect  # type: ignore[attr-defined]  # noqa: B018
