import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/**
 * What the programs share that run until they are told to stop: their arguments, the lines that they print in batches, and their end.
 * It knows no Kafka.
 */
final class Program {
    static final long POLL_MS = 5;
    private static final long RUN_TIME_MAX_MS = 300_000;
    private static final long PRINT_EVERY_MS = 50;

    private final String batchName;
    /** Appending waits for no printing: it happens in the library's callbacks. */
    private final Object batchLock = new Object();
    private final Object printLock = new Object();
    private StringBuilder batch = new StringBuilder();
    private long batched;
    private volatile long printed;
    private volatile boolean stopping;

    /** It prints batches by that name from now on, at most every 50 ms, and ends itself after 300 s. */
    Program(String batchName) {
        this.batchName = batchName;
        background(() -> {
            pause(RUN_TIME_MAX_MS);
            die("not stopped after 300 s");
        });
        background(this::awaitStop);
        background(() -> {
            for (;;) {
                pause(PRINT_EVERY_MS);
                flush();
            }
        });
    }

    /** The options behind the bootstrap servers: those that stand alone, and those with a value. */
    static Map<String, String> options(String[] args, List<String> alone, List<String> valued) {
        if (args.length == 0 || args[0].startsWith("-")) {
            throw new IllegalArgumentException("no bootstrap servers");
        }
        Map<String, String> given = new HashMap<>();
        for (int i = 1; i < args.length; i++) {
            if (alone.contains(args[i])) {
                given.put(args[i], "");
            } else if ((valued.contains(args[i]) || args[i].equals("--out")) && i + 1 < args.length) {
                given.put(args[i], args[++i]);
            } else {
                throw new IllegalArgumentException("not understood: " + args[i]);
            }
        }
        return given;
    }

    boolean stopping() {
        return stopping;
    }

    void stop() {
        stopping = true;
    }

    /** Adds one list of numbers to the batch. */
    void add(Object... numbers) {
        synchronized (batchLock) {
            batch.append(batch.length() == 0 ? "[" : ",[");
            for (int i = 0; i < numbers.length; i++) {
                batch.append(i == 0 ? "" : ",").append(numbers[i]);
            }
            batch.append(']');
            batched++;
        }
    }

    /** When it returns, the batch is printed, whoever does it. */
    void flush() {
        synchronized (printLock) {
            StringBuilder full;
            long total;
            synchronized (batchLock) {
                full = batch;
                total = batched;
                batch = new StringBuilder();
            }
            if (full.length() > 0) {
                Report.emit("{\"" + batchName + "\":[" + full + "]}");
            }
            printed = total;
        }
    }

    /** Prints a line behind the batch so far. */
    void print(String line) {
        synchronized (printLock) {
            flush();
            Report.emit(line);
        }
    }

    /** How many lists of numbers have been printed in batches. */
    long printed() {
        return printed;
    }

    /** The program's end, at once; closing a client may wait for brokers that are gone. The last line is asked for when all else is printed. */
    void end(int status, Supplier<String> lastLine) {
        synchronized (printLock) {
            flush();
            Report.emit(lastLine.get());
            Runtime.getRuntime().halt(status);
        }
    }

    void die(String why) {
        flush();
        System.err.println(why);
        Runtime.getRuntime().halt(1);
    }

    private void awaitStop() {
        try {
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
            for (String line = in.readLine(); line != null && !line.trim().equals("stop"); line = in.readLine()) {
                continue;
            }
        } catch (IOException e) {
            System.err.println(e);
        }
        stopping = true;
    }

    static double unixMs() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1e3 + now.getNano() / 1e6;
    }

    /** Milliseconds to the microsecond, whatever the locale. */
    static String decimal(double ms) {
        return BigDecimal.valueOf(Math.round(ms * 1000), 3).toPlainString();
    }

    static Thread background(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    static void pause(long ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
