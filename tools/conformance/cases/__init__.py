# SPDX-License-Identifier: MIT
"""All cases; importing this package registers them, in the order of a report."""

from . import bodies as bodies
from . import client as client
from . import client_heads as client_heads
from . import client_lists as client_lists
from . import closing as closing
from . import compression as compression
from . import control as control
from . import deflate_edges as deflate_edges
from . import deflate_hostile as deflate_hostile
from . import deflate_offers as deflate_offers
from . import deflate_windows as deflate_windows
from . import ends as ends
from . import exchanges as exchanges
from . import floods as floods
from . import flow as flow
from . import fragments as fragments
from . import framing as framing
from . import handshake_answers as handshake_answers
from . import handshake_requests as handshake_requests
from . import http_bodies as http_bodies
from . import http_heads as http_heads
from . import lists as lists
from . import messages as messages
from . import segments as segments
from . import splits as splits
from . import text as text
from . import timing as timing
