"""`python -m streamctl`: runs the program in place of this process."""

from __future__ import annotations

import os
import sys

from .errors import StreamctlError
from .program import find


def main() -> int:
    """Does not return if the program is found."""
    try:
        program = find()
    except StreamctlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
