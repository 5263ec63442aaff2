// SPDX-License-Identifier: MIT
// Echo server with `ws` and bufferutil. Messages to /broadcast go to all clients there.
"use strict";

const fs = require("fs");
const https = require("https");
const { WebSocketServer } = require("ws");

// Each message is compressed by itself, as with a shared compressor.
const alone = { serverNoContextTakeover: true, clientNoContextTakeover: true };

// The words after --cert and --key name files; without them, there is no TLS.
function secure() {
  const file = (name) => fs.readFileSync(process.argv[process.argv.indexOf(name) + 1]);
  const made = https.createServer({ cert: file("--cert"), key: file("--key") });
  made.listen(0, "127.0.0.1");
  return { server: made };
}

const server = new WebSocketServer({
  ...(process.argv.includes("--cert") ? secure() : { host: "127.0.0.1", port: 0 }),
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
