// SPDX-License-Identifier: MIT
"use strict";

/**
 * A WebSocket that connects again when the connection is lost, but not after its close().
 *
 *   const socket = connect("/chat", {
 *     open() { socket.send("hello"); },
 *     message(data) { console.log(data); },     // a string or an ArrayBuffer
 *     close(event, byUs) {},                    // call socket.close() here to stay away
 *     state(name, delay) {},                    // "connecting", "open", "waiting" or "closed"
 *     gap(topic) {},                            // see below
 *   });
 *   socket.send(data);       // returns false, and does nothing, without a connection
 *   socket.close(code, reason);
 *   socket.open();           // connects at once while waiting, or again after close()
 *
 * All these functions are optional. `delay` is the number of milliseconds until the next attempt.
 * It doubles with each attempt that fails, from 0.25 s up to 10 s, and a random part of it keeps
 * many pages from coming back in the same moment. The address may be relative to the page, or a
 * function that returns one or a promise of one, for example with a new token for each attempt.
 *
 * With `history: true` among them, the server sends what was missed of topics that have history, if
 * the new connection subscribes to them again. Their messages come with a second argument,
 * message(data, {topic, id}). After gap(topic) there are messages between those that have come and
 * those that will come, which the server does not have any more: load everything anew.
 *
 * This file is part of pyws (MIT license).
 */
function connect(address, on = {}) {
  const SHORTEST = 250, LONGEST = 10000, ENOUGH = 5000;  // ms
  const ROOM = 4000;  // characters of a URL for ids
  const last = new Map();  // topic -> id of its last message; the topic used last is the last one
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
    const url = new URL(where, location.href);
    if (on.history) url.search += `${url.search ? "&" : "?"}history=${known()}`;
    const own = socket = new WebSocket(url.href.replace(/^http/, "ws"));
    own.binaryType = "arraybuffer";
    own.onopen = () => {
      if (mine !== current) return own.close();
      opened = performance.now();
      emit("state", "open");
      emit("open");
    };
    own.onmessage = event => mine === current && received(event.data);
    own.onclose = event => mine === current && closed(event);
  }

  // The last ids, those of topics that were used last first, as far as there is room.
  function known() {
    const ids = Object.create(null);
    let text = "%7B%7D";
    for (const [topic, id] of [...last].reverse()) {
      ids[topic] = id;
      const longer = encodeURIComponent(JSON.stringify(ids));
      if (longer.length > ROOM) break;
      text = longer;
    }
    return text;
  }

  function received(data) {
    const [label, rest] = on.history ? split(data) : ["", data];
    if (!label) return emit("message", rest);
    const {topic, id, complete} = JSON.parse(label);
    const isNew = complete === false || !last.has(topic) || isNewer(id, last.get(topic));
    const isGap = complete === false || complete && isNew && last.has(topic);
    if (isNew) {
      last.delete(topic);
      last.set(topic, id);
    }
    if (isGap) emit("gap", topic);
    else if (isNew && complete === undefined) emit("message", rest, {topic, id});
  }

  // A label is between a zero byte and the first line feed.
  function split(data) {
    if (typeof data === "string") {
      const end = data[0] === "\0" ? data.indexOf("\n") : -1;
      return [data.slice(1, Math.max(end, 1)), data.slice(end + 1)];
    }
    const bytes = new Uint8Array(data), end = bytes[0] === 0 ? bytes.indexOf(10) : -1;
    return [new TextDecoder().decode(bytes.subarray(1, Math.max(end, 1))), data.slice(end + 1)];
  }

  // Ids are numbers that are joined by "-".
  function isNewer(id, other) {
    const [ours, theirs] = [id, other].map(one => one.split("-").map(BigInt));
    const at = ours.findIndex((number, i) => number !== theirs[i]);
    return at >= 0 && (at >= theirs.length || ours[at] > theirs[at]);
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
