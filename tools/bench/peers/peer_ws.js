// Echo server with `ws` and bufferutil. Messages to /broadcast go to all clients there.
"use strict";

const { WebSocketServer } = require("ws");

// Each message is compressed by itself, as with a shared compressor.
const alone = { serverNoContextTakeover: true, clientNoContextTakeover: true };
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  maxPayload: 1024 * 1024,
  perMessageDeflate: process.argv.includes("--deflate") ? alone : false,
});

const members = new Set();

function spread(socket) {
  members.add(socket);
  socket.on("close", () => members.delete(socket));
  socket.on("message", (data, binary) => {
    for (const member of members) {
      member.send(data, { binary });
    }
  });
}

server.on("connection", (socket, request) => {
  socket.on("error", () => {}); // the connection ends by itself
  if (request.url === "/broadcast") {
    spread(socket);
  } else {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  }
});

server.on("listening", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
