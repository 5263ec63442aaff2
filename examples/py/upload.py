# SPDX-License-Identifier: MIT
"""A page that uploads files and shows the progress; the server writes them to disk as they arrive.

python upload.py [FOLDER], then open http://127.0.0.1:9001/
"""

import asyncio
import os
import sys
import tempfile

from pyws import App, ClientDisconnect, Request, Response

FOLDER = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
PAGE = """<!doctype html><meta charset="utf-8"><title>Upload</title>
<input type="file"> <progress value="0"></progress> <output></output>
<script>
const [input, progress, output] = document.querySelectorAll("input, progress, output");
input.onchange = () => {
    const request = new XMLHttpRequest();  // fetch() does not report the progress of an upload
    request.upload.onprogress = (event) => { progress.value = event.loaded / event.total; };
    request.onload = () => { output.value = request.responseText; };
    request.onerror = () => { output.value = "failed"; };
    request.open("PUT", "/files");
    request.send(input.files[0]);
};
</script>
"""


def page(res: Response, req: Request) -> None:
    res.send(PAGE, content_type="text/html; charset=utf-8")


async def upload(res: Response, req: Request) -> None:
    """While the disk is slow, no chunk is taken, and the client has to wait."""
    loop = asyncio.get_running_loop()
    descriptor, path = tempfile.mkstemp(dir=FOLDER)
    size = 0
    try:
        with open(descriptor, "wb", buffering=0) as file:
            async for chunk in req.stream():
                await loop.run_in_executor(None, file.write, chunk)
                size += len(chunk)
    except ClientDisconnect:
        os.unlink(path)
        raise
    res.send({"name": os.path.basename(path), "size": size}, 201)


app = App()
app.get("/", page)
app.put("/files", upload, max_body_size=10 * 1024**3)
app.listen(9001)
app.run()
