"""What tests of the package share.

Owns: the program under test. Does not own: building it (`make test` has done so).
"""

from __future__ import annotations

import pytest

from streamctl import StreamctlError
from streamctl.program import find


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the program `streamctl`: STREAMCTL_PROGRAM, or that of the installed wheel."""
    try:
        return find()
    except StreamctlError as error:
        pytest.fail(str(error))
