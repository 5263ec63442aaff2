// SPDX-License-Identifier: MIT
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * java TlsClient.java URL AUTHORITY MESSAGE [KEYSTORE PASSWORD]
 *
 * Sends a message with the client of the JDK, prints its echo and then the code of the Close frame.
 */
public class TlsClient {
    static class Listener implements WebSocket.Listener {
        final CompletableFuture<String> echo = new CompletableFuture<>();
        final CompletableFuture<Integer> closed = new CompletableFuture<>();
        private final StringBuilder text = new StringBuilder();

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            text.append(data);
            if (last) {
                echo.complete(text.toString());
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            closed.complete(code);
            echo.completeExceptionally(new IllegalStateException("closed: " + code));
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            echo.completeExceptionally(error);
            closed.completeExceptionally(error);
        }
    }

    static KeyStore trusted(String file) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            CertificateFactory factory = CertificateFactory.getInstance("X.509");
            store.setCertificateEntry("authority", factory.generateCertificate(in));
        }
        return store;
    }

    static KeyManager[] keys(String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(Path.of(file))) {
            store.load(in, password);
        }
        KeyManagerFactory factory =
            KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        factory.init(store, password);
        return factory.getKeyManagers();
    }

    public static void main(String[] args) throws Exception {
        TrustManagerFactory trust =
            TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted(args[1]));
        KeyManager[] keys = args.length > 3 ? keys(args[3], args[4].toCharArray()) : null;
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);

        HttpClient client = HttpClient.newBuilder().sslContext(context).build();
        Listener listener = new Listener();
        WebSocket socket = client.newWebSocketBuilder()
            .buildAsync(URI.create(args[0]), listener)
            .get(20, TimeUnit.SECONDS);
        socket.sendText(args[2], true);
        System.out.println(listener.echo.get(20, TimeUnit.SECONDS));
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "done");
        System.out.println(listener.closed.get(20, TimeUnit.SECONDS));
    }
}
