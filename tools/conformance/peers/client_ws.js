// SPDX-License-Identifier: MIT
// Client with `ws`, for --listen: node client_ws.js URL NAME.
"use strict";

const { WebSocket } = require("ws");

const [base, name] = [process.argv[2].replace(/\/$/, ""), process.argv[3]];
const options = { maxPayload: 64 * 1024 * 1024 };

function visit(path, onMessage) {
  return new Promise((resolve) => {
    const socket = new WebSocket(base + path, ["chat", "superchat"], options);
    socket.on("message", (data, isBinary) => onMessage(socket, data, isBinary));
    socket.on("error", () => {}); // many cases expect this
    socket.on("close", resolve);
  });
}

async function main() {
  let count = 0;
  await visit("/getCaseCount", (socket, data) => (count = Number(data)));
  for (let number = 1; number <= count; number++) {
    await visit(`/runCase?case=${number}&agent=${name}`, (socket, data, isBinary) =>
      socket.send(data, { binary: isBinary }),
    );
  }
  await visit(`/updateReports?agent=${name}`, () => {});
}

main();
