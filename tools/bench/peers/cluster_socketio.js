// SPDX-License-Identifier: MIT
// Socket.IO of Node with its Redis adapter: process.argv[2] is the URL of Redis.
// Clients that connect with role=subscribe join the room; the event "m" goes to that room.
"use strict";

const http = require("http");
const Redis = require("ioredis");
const { createAdapter } = require("@socket.io/redis-adapter");
const { Server } = require("socket.io");

const publishing = new Redis(process.argv[2]);
const server = http.createServer();
const io = new Server(server, {
  adapter: createAdapter(publishing, publishing.duplicate()),
  transports: ["websocket"],
});

io.on("connection", (socket) => {
  if (socket.handshake.query.role === "subscribe") {
    socket.join("all");
  }
  socket.on("m", (text) => io.to("all").emit("m", text));
});

server.listen(0, "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
