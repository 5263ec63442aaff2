// SPDX-License-Identifier: MIT
// Echo server with `faye-websocket`: its defaults, a limit of 16 MiB for messages, and the
// extension `permessage-deflate`. This program answers 400 to requests that it does not recognize.
"use strict";
const http = require("http");
const WebSocket = require("faye-websocket");
const deflate = require("permessage-deflate");

const options = { extensions: [deflate], maxLength: 16 * 1024 * 1024 };
const server = http.createServer((request, response) => response.writeHead(400).end());
server.on("upgrade", (request, socket, body) => {
  if (!WebSocket.isWebSocket(request)) {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  const connection = new WebSocket(request, socket, body, [], options);
  connection.on("message", (event) => connection.send(event.data));
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
