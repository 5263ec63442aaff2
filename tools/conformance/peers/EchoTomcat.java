// SPDX-License-Identifier: MIT
// Echo server with Tomcat: its defaults. It delivers messages in parts that fit into its buffers of
// 8 KiB. Buffers for the largest message would be allocated for every connection.

import jakarta.websocket.OnMessage;
import jakarta.websocket.Session;
import jakarta.websocket.server.ServerEndpoint;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.util.Set;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.servlets.DefaultServlet;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.websocket.server.WsSci;

public class EchoTomcat {
    @ServerEndpoint("/")
    public static class Echo {
        private StringBuilder text = new StringBuilder();
        private ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        @OnMessage
        public void text(Session session, String part, boolean last) throws IOException {
            text.append(part);
            if (last) {
                session.getBasicRemote().sendText(text.toString());
                text = new StringBuilder();
            }
        }

        @OnMessage
        public void binary(Session session, byte[] part, boolean last) throws IOException {
            bytes.write(part);
            if (last) {
                session.getBasicRemote().sendBinary(ByteBuffer.wrap(bytes.toByteArray()));
                bytes = new ByteArrayOutputStream();
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("org.apache").setLevel(Level.OFF);
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", null);
        Tomcat.addServlet(context, "default", new DefaultServlet());
        context.addServletMappingDecoded("/", "default");
        context.addServletContainerInitializer(new WsSci(), Set.of(Echo.class));
        tomcat.start();
        System.out.println("listening on 127.0.0.1:" + tomcat.getConnector().getLocalPort());
        tomcat.getServer().await();
    }
}
