# SPDX-License-Identifier: MIT
# Echo server with Mojolicious: its defaults, a limit of 16 MiB for messages, and
# permessage-deflate. Mojolicious leaves the UTF-8 check to the program, which does not check.
use Mojolicious::Lite -signatures;
use Mojo::Server::Daemon;

$| = 1;
app->log->level('fatal');

websocket '/*rest' => {rest => ''} => sub ($c) {
    $c->tx->max_websocket_size(16 * 1024 * 1024);
    $c->tx->with_compression;
    for my $kind (qw(text binary)) {
        $c->on($kind => sub ($c, $bytes) { $c->send({$kind => $bytes}) });
    }
};

my $daemon = Mojo::Server::Daemon->new(app => app, listen => ['http://127.0.0.1:0'], silent => 1);
$daemon->start;
print 'listening on 127.0.0.1:', $daemon->ports->[0], "\n";
$daemon->ioloop->start;
