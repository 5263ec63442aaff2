# SPDX-License-Identifier: MIT
"""Nchan, a module of nginx, with two workers that share memory.

sys.argv[1] is the file of the module. Messages to /publish go to the clients of /subscribe.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = """
load_module {module};
daemon off;
worker_processes 2;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_message_buffer_length 0;
    server {{
        listen 127.0.0.1:{port} reuseport;
        add_header X-Process $pid always;
        location = /publish {{ nchan_publisher websocket; nchan_channel_id all; }}
        location = /subscribe {{ nchan_subscriber websocket; nchan_channel_id all; }}
    }}
}}
"""


def find_port() -> int:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return int(finder.getsockname()[1])


def wait_for(port: int, nginx: "subprocess.Popen[bytes]") -> None:
    while nginx.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)


def main() -> None:
    port = find_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(CONFIGURATION.format(module=sys.argv[1], folder=folder, port=port))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", str(file)])
        signal.signal(signal.SIGTERM, lambda *_: nginx.terminate())
        wait_for(port, nginx)
        print(f"listening on 127.0.0.1:{port}", flush=True)
        nginx.wait()


if __name__ == "__main__":
    main()
