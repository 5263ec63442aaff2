// SPDX-License-Identifier: MIT
// Echo server with `ws`: permessage-deflate, which is off by default, and a limit of 16 MiB.
"use strict";

const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  maxPayload: 16 * 1024 * 1024,
  perMessageDeflate: true,
});

server.on("connection", (socket) => {
  socket.on("error", () => {}); // the connection ends by itself
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});

server.on("listening", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
