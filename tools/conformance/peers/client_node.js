// SPDX-License-Identifier: MIT
// Client with Node's own WebSocket, for --listen: node client_node.js URL NAME.
// Before Node 22: node --experimental-websocket.
"use strict";

const [base, name] = [process.argv[2].replace(/\/$/, ""), process.argv[3]];

function visit(path, onMessage) {
  return new Promise((resolve) => {
    const socket = new WebSocket(base + path, ["chat", "superchat"]);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => onMessage(socket, event.data);
    socket.onerror = () => resolve(); // many cases expect this
    socket.onclose = () => resolve();
  });
}

async function main() {
  let count = 0;
  await visit("/getCaseCount", (socket, data) => (count = Number(data)));
  for (let number = 1; number <= count; number++) {
    await visit(`/runCase?case=${number}&agent=${name}`, (socket, data) => socket.send(data));
  }
  await visit(`/updateReports?agent=${name}`, () => {});
}

main();
