// SPDX-License-Identifier: MIT
// Echo server with Bun. Messages to /broadcast go to all clients there.
"use strict";

const deflate = process.argv.includes("--deflate");
const topic = "all";

// The words after --cert and --key name files; without them, there is no TLS.
const file = (name) => Bun.file(process.argv[process.argv.indexOf(name) + 1]);
const secure = process.argv.includes("--cert")
  ? { tls: { cert: file("--cert"), key: file("--key") } }
  : {};

const server = Bun.serve({
  ...secure,
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    const group = request.url.endsWith("/broadcast");
    if (!server.upgrade(request, { data: { group } })) {
      return new Response("WebSocket only\n", { status: 400 });
    }
  },
  websocket: {
    maxPayloadLength: 1024 * 1024,
    backpressureLimit: 16 * 1024 * 1024,
    perMessageDeflate: deflate ? { compress: "shared", decompress: "shared" } : false,
    open(socket) {
      if (socket.data.group) {
        socket.subscribe(topic);
      }
    },
    message(socket, message) {
      if (socket.data.group) {
        server.publish(topic, message);
      } else {
        socket.send(message, deflate);
      }
    },
  },
});

console.log(`listening on 127.0.0.1:${server.port}`);
