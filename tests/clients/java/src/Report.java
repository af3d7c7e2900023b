import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.function.BooleanSupplier;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;

/** The lines that the program prints and the addresses that it collects; tests/clients/README.md describes them. */
final class Report {
    interface Step {
        String run() throws Exception;
    }

    static final long WAIT_MAX_MS = 30_000;

    private static final Set<String> told = new ConcurrentSkipListSet<>();
    private static final Set<String> dialled = new ConcurrentSkipListSet<>();
    private static boolean failed;

    private Report() {}

    /** The client says what it dials only in its log, so the log is read on its way to standard error. */
    static void readLog() {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "error");
        System.setProperty("org.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient", "debug");
        Pattern dialling = Pattern.compile("Initiating connection to node (\\S+:\\d+)");
        PrintStream original = System.err;
        OutputStream lines = new OutputStream() {
            private final StringBuilder line = new StringBuilder();
            private boolean wanted = true;

            @Override
            public synchronized void write(int b) {
                if (b != '\n') {
                    line.append((char) b);
                    return;
                }
                Matcher m = dialling.matcher(line);
                if (m.find()) {
                    dialled.add(m.group(1));
                }
                if (line.indexOf("[") == 0) {
                    wanted = line.indexOf(" DEBUG ") < 0;
                }
                if (wanted) {
                    original.println(line);
                }
                line.setLength(0);
            }
        };
        System.setErr(new PrintStream(lines, true));
    }

    static void told(String host, int port) {
        told.add(host + ":" + port);
    }

    static boolean step(String name, Step step) {
        try {
            emit("{\"step\":" + quoted(name) + ",\"ok\":true,\"detail\":" + quoted(step.run()) + "}");
            return true;
        } catch (Exception | LinkageError e) {
            failed = true;
            emit("{\"step\":" + quoted(name) + ",\"ok\":false,\"detail\":" + quoted(e.toString()) + "}");
            return false;
        }
    }

    /** The library's version, as it says it. */
    static String version() {
        try (InputStream in = Admin.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            Properties p = new Properties();
            p.load(in);
            return p.getProperty("version");
        } catch (Exception e) {
            return "unknown";
        }
    }

    static void client(String version) {
        emit("{\"client\":\"java\",\"version\":" + quoted(version) + "}");
    }

    static void finish() {
        emit("{\"told\":" + quoted(told) + "}");
        emit("{\"dialled\":" + quoted(dialled) + "}");
        System.exit(failed ? 1 : 0);
    }

    static String eventually(String what, String detail, BooleanSupplier holds) throws Exception {
        long until = System.currentTimeMillis() + WAIT_MAX_MS;
        while (!holds.getAsBoolean()) {
            if (System.currentTimeMillis() > until) {
                throw new IllegalStateException("never seen: " + what);
            }
            Thread.sleep(20);
        }
        return detail;
    }

    static void emit(String line) {
        PrintStream out = System.out;
        byte[] bytes = (line + "\n").getBytes(StandardCharsets.UTF_8);
        out.write(bytes, 0, bytes.length);
        out.flush();
    }

    private static String quoted(Collection<String> values) {
        return values.stream().map(Report::quoted).collect(Collectors.joining(",", "[", "]"));
    }

    static String quoted(String value) {
        StringBuilder s = new StringBuilder("\"");
        for (char c : value.toCharArray()) {
            if (c == '"' || c == '\\') {
                s.append('\\').append(c);
            } else if (c < 0x20) {
                s.append(String.format("\\u%04x", (int) c));
            } else {
                s.append(c);
            }
        }
        return s.append('"').toString();
    }
}
