// SPDX-License-Identifier: MIT
// Echo server with `websocket`: its defaults, and a limit of 16 MiB for frames and messages.
"use strict";
const http = require("http");
const { server: WebSocketServer } = require("websocket");

const largest = 16 * 1024 * 1024;
const server = http.createServer((request, response) => response.writeHead(400).end());
const sockets = new WebSocketServer({
  httpServer: server,
  maxReceivedFrameSize: largest,
  maxReceivedMessageSize: largest,
});
sockets.on("request", (request) => {
  const connection = request.accept(null, request.origin);
  connection.on("message", (message) => {
    if (message.type === "utf8") connection.sendUTF(message.utf8Data);
    else connection.sendBytes(message.binaryData);
  });
});
server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
