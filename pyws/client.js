"use strict";

/**
 * A WebSocket that connects again when the connection is lost, but not after its close().
 *
 *   const socket = connect("/chat", {
 *     open() { socket.send("hello"); },
 *     message(data) { console.log(data); },     // a string or an ArrayBuffer
 *     close(event, byUs) {},                    // call socket.close() here to stay away
 *     state(name, delay) {},                    // "connecting", "open", "waiting" or "closed"
 *   });
 *   socket.send(data);       // returns false, and does nothing, without a connection
 *   socket.close(code, reason);
 *   socket.open();           // connects at once while waiting, or again after close()
 *
 * All four functions are optional. `delay` is the number of milliseconds until the next attempt.
 * It doubles with each attempt that fails, from 0.25 s up to 10 s, and a random part of it keeps
 * many pages from coming back in the same moment. The address may be relative to the page, or a
 * function that returns one or a promise of one, for example with a new token for each attempt.
 *
 * This file is part of pyws (MIT license).
 */
function connect(address, on = {}) {
  const SHORTEST = 250, LONGEST = 10000, ENOUGH = 5000;  // ms
  let socket = null, timer, opened, attempts = 0, current = 0, wanted = false;

  const emit = (name, ...values) => on[name]?.(...values);

  async function open() {
    clearTimeout(timer);
    wanted = true;
    const mine = ++current;  // whatever belongs to an earlier attempt is ignored
    opened = Infinity;
    emit("state", "connecting");
    let where = address;
    if (typeof address === "function") {
      socket = null;
      try {
        where = await address();
      } catch (error) {
        console.error(error);
        if (mine === current) retry();
        return;
      }
      if (mine !== current) return;
    }
    const own = socket = new WebSocket(new URL(where, location.href).href.replace(/^http/, "ws"));
    own.binaryType = "arraybuffer";
    own.onopen = () => {
      if (mine !== current) return own.close();
      opened = performance.now();
      emit("state", "open");
      emit("open");
    };
    own.onmessage = event => mine === current && emit("message", event.data);
    own.onclose = event => mine === current && closed(event);
  }

  function closed(event) {
    const byUs = !wanted;
    emit("close", event, byUs);
    if (byUs) emit("state", "closed");
    else if (wanted) retry();
  }

  function retry() {
    if (performance.now() - opened > ENOUGH) attempts = 0;  // it was worth it
    const delay = Math.min(SHORTEST * 2 ** attempts++, LONGEST) * (0.75 + Math.random() / 2);
    timer = setTimeout(open, delay);
    emit("state", "waiting", delay);
  }

  // A page that is left may be kept for the way back; there, its close event starts a new attempt.
  addEventListener("pagehide", () => socket?.close(1000, "page left"));
  open();
  return {
    open,
    send(data) {
      if (socket?.readyState !== WebSocket.OPEN) return false;
      socket.send(data);
      return true;
    },
    close(code, reason) {
      clearTimeout(timer);
      wanted = false;
      if (socket && socket.readyState !== WebSocket.CLOSED) return socket.close(code, reason);
      current++;
      emit("state", "closed");
    },
  };
}

if (typeof module === "object") module.exports = { connect };  // for bundlers
