// SPDX-License-Identifier: MIT
// Echo server with gorilla/websocket: its defaults, a limit of 16 MiB for messages, and
// permessage-deflate. Neither the library nor this program checks whether text is UTF-8.
package main

import (
	"fmt"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{EnableCompression: true}

func echo(response http.ResponseWriter, request *http.Request) {
	connection, err := upgrader.Upgrade(response, request, nil)
	if err != nil {
		return // it has sent a response
	}
	defer connection.Close()
	connection.SetReadLimit(16 * 1024 * 1024)
	for {
		kind, message, err := connection.ReadMessage()
		if err != nil {
			return
		}
		if connection.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	panic(http.Serve(listener, http.HandlerFunc(echo)))
}
