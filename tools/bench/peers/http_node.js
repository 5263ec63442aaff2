// SPDX-License-Identifier: MIT
// What http.py measures of Node's own HTTP server. The argument is the folder of the file.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

const FILE = path.join(process.argv[2], "file");
const TYPE = { "Content-Type": "text/plain" };

function answer(res, text) {
  res.writeHead(200, { ...TYPE, "Content-Length": Buffer.byteLength(text) });
  res.end(text);
}

function sendFile(res) {
  fs.open(FILE, (error, fd) => {
    if (error) return res.destroy();
    fs.fstat(fd, (failed, status) => {
      if (failed) return res.destroy();
      res.writeHead(200, { ...TYPE, "Content-Length": status.size });
      fs.createReadStream(FILE, { fd }).pipe(res);
    });
  });
}

const server = http.createServer((req, res) => {
  if (req.url === "/text") return answer(res, "Hello, world!\n");
  if (req.url === "/file") return sendFile(res);
  const keeps = req.url === "/read";
  const parts = [];
  let size = 0;
  req.on("data", (chunk) => {
    size += chunk.length;
    if (keeps) parts.push(chunk);
  });
  req.on("end", () => answer(res, String(keeps ? Buffer.concat(parts).length : size)));
});

server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
