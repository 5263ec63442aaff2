// SPDX-License-Identifier: MIT
// Echo server with websocketpp: its defaults, and permessage-deflate.

#include <iostream>
#include <websocketpp/config/asio_no_tls.hpp>
#include <websocketpp/extensions/permessage_deflate/enabled.hpp>
#include <websocketpp/server.hpp>

struct Config : websocketpp::config::asio {
    struct permessage_deflate_config {};
    typedef websocketpp::extensions::permessage_deflate::enabled<permessage_deflate_config>
        permessage_deflate_type;
};

typedef websocketpp::server<Config> Server;

int main()
{
    Server server;
    server.clear_access_channels(websocketpp::log::alevel::all);
    server.clear_error_channels(websocketpp::log::elevel::all);
    server.init_asio();
    server.set_message_handler(
        [&server](websocketpp::connection_hdl connection, Server::message_ptr message) {
            websocketpp::lib::error_code error;
            server.send(connection, message->get_payload(), message->get_opcode(), error);
        });
    server.listen(boost::asio::ip::tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
    server.start_accept();
    websocketpp::lib::asio::error_code error;
    std::cout << "listening on 127.0.0.1:" << server.get_local_endpoint(error).port() << std::endl;
    server.run();
}
