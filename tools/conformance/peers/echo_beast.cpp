// SPDX-License-Identifier: MIT
// Echo server with Boost.Beast, a thread for each connection: its defaults, a limit of 16 MiB for
// messages, and permessage-deflate.

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>
#include <iostream>
#include <thread>

namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using tcp = boost::asio::ip::tcp;

static void echo(tcp::socket socket)
{
    websocket::stream<tcp::socket> stream(std::move(socket));
    websocket::permessage_deflate deflate;
    deflate.server_enable = true;
    stream.set_option(deflate);
    stream.read_message_max(16 * 1024 * 1024);

    beast::error_code error;
    beast::flat_buffer message;
    for (stream.accept(error); !error; message.clear()) {
        stream.read(message, error);
        if (error)
            break;
        stream.text(stream.got_text());
        stream.write(message.data(), error);
    }
}

int main()
{
    boost::asio::io_context context;
    tcp::acceptor acceptor(context, {boost::asio::ip::make_address("127.0.0.1"), 0});
    std::cout << "listening on 127.0.0.1:" << acceptor.local_endpoint().port() << std::endl;
    for (;;)
        std::thread(echo, acceptor.accept()).detach();
}
