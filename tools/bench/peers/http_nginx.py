# SPDX-License-Identifier: MIT
"""What http.py measures of nginx: a fixed text, and a file with sendfile.

sys.argv[1] is the folder of the file.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A limit of keepalive_requests would close connections.
CONFIGURATION = """
daemon off;
worker_processes 1;
error_log {folder}/error.log;
pid {folder}/pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/plain;
    server {{
        listen 127.0.0.1:{port};
        location = /text {{ return 200 "Hello, world!\\n"; }}
        location / {{ root {root}; }}
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
        # A worker of root becomes another user, who must be able to read the file.
        Path(folder).chmod(0o755)
        file = Path(folder) / "nginx.conf"
        text = CONFIGURATION.format(folder=folder, port=port, root=sys.argv[1])
        file.write_text(text)
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", str(file)])
        signal.signal(signal.SIGTERM, lambda *_: nginx.terminate())
        wait_for(port, nginx)
        print(f"listening on 127.0.0.1:{port}", flush=True)
        nginx.wait()


if __name__ == "__main__":
    main()
