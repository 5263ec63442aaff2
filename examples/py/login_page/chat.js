// SPDX-License-Identifier: MIT
"use strict";

const at = (id) => document.getElementById(id);

function show(text) {
  const item = document.createElement("li");
  item.textContent = text; // never as HTML: another user has written it
  at("log").append(item);
}

function chat(name) {
  at("me").textContent = name;
  at("chat").hidden = false;
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/chat");
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    show(message.event ?? `${message.name}: ${message.text}`);
  };
  socket.onclose = (event) => show(event.reason || "The connection is lost: reload the page.");
  at("say").onsubmit = (event) => {
    event.preventDefault();
    socket.send(at("text").value);
    at("text").value = "";
  };
}

fetch("/me").then(async (response) => {
  if (response.ok) chat((await response.json()).name);
  else at("login").hidden = false;
});
