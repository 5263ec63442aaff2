# SPDX-License-Identifier: MIT
"""TLS for the servers of this folder: the options --cert FILE and --key FILE."""

import ssl
import sys
from typing import Any, Dict, Optional


def files() -> Dict[str, str]:
    """Return the files of the command line, with the names that `load_cert_chain` gives them."""
    words = sys.argv
    if "--cert" not in words:
        return {}
    return {
        "certfile": words[words.index("--cert") + 1],
        "keyfile": words[words.index("--key") + 1],
    }


def context() -> Optional[Any]:
    """Return a context of the defaults with the files, or None without them."""
    if not files():
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(**files())
    return made
