package oracle;

import java.time.Duration;
import java.util.List;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.CogroupedKStream;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Grouping and aggregating, in one node: by names the group (none: the key), fn the aggregator, kind
 * "reduce" combines values instead of starting from an initial one.
 */
final class Aggregations {
    private Aggregations() {}

    static Object add(Case.Node n, Object input) {
        if (input instanceof KTable) {
            KTable<Object, String> t = Graph.cast(input);
            return ofTable(n, t.groupBy(
                    (k, v) -> KeyValue.pair(Functions.key(n.by, (String) k, v), v),
                    Grouped.with(Graph.TEXT, Graph.TEXT)));
        }
        KGroupedStream<String, String> g = group(n, Graph.cast(input));
        if (n.window == null) {
            return ofStream(n, g);
        }
        switch (n.window.kind) {
            case "session":
                return ofSessions(n, g.windowedBy(sessions(n.window)).emitStrategy(emit(n)));
            case "sliding":
                return ofWindows(n, g.windowedBy(sliding(n.window)).emitStrategy(emit(n)));
            default:
                return ofWindows(n, g.windowedBy(windows(n.window)).emitStrategy(emit(n)));
        }
    }

    private static KGroupedStream<String, String> group(Case.Node n, KStream<String, String> s) {
        Grouped<String, String> how = Grouped.with(Graph.TEXT, Graph.TEXT);
        return n.by.isEmpty() ? s.groupByKey(how) : s.groupBy((k, v) -> Functions.key(n.by, k, v), how);
    }

    private static EmitStrategy emit(Case.Node n) {
        return n.close ? EmitStrategy.onWindowClose() : EmitStrategy.onWindowUpdate();
    }

    private static TimeWindows windows(Case.Window w) {
        TimeWindows t =
                TimeWindows.ofSizeAndGrace(Duration.ofMillis(w.size), Duration.ofMillis(w.grace));
        return w.kind.equals("hopping") ? t.advanceBy(Duration.ofMillis(w.advance)) : t;
    }

    private static SlidingWindows sliding(Case.Window w) {
        return SlidingWindows.ofTimeDifferenceAndGrace(Duration.ofMillis(w.size), Duration.ofMillis(w.grace));
    }

    private static SessionWindows sessions(Case.Window w) {
        return SessionWindows.ofInactivityGapAndGrace(Duration.ofMillis(w.size), Duration.ofMillis(w.grace));
    }

    private static Object ofStream(Case.Node n, KGroupedStream<String, String> g) {
        Materialized<String, String, KeyValueStore<Bytes, byte[]>> m = Materialized.with(Graph.TEXT, Graph.TEXT);
        if (n.kind.equals("reduce")) {
            return g.reduce((a, v) -> Functions.add(n.fn, a, v), m);
        }
        return g.aggregate(() -> Functions.initial(n.fn), (k, v, a) -> Functions.add(n.fn, a, v), m);
    }

    private static Object ofTable(Case.Node n, KGroupedTable<String, String> g) {
        Materialized<String, String, KeyValueStore<Bytes, byte[]>> m = Materialized.with(Graph.TEXT, Graph.TEXT);
        if (n.kind.equals("reduce")) {
            return g.reduce((a, v) -> Functions.add(n.fn, a, v), (a, v) -> Functions.remove(n.fn, a, v), m);
        }
        return g.aggregate(() -> Functions.initial(n.fn), (k, v, a) -> Functions.add(n.fn, a, v),
                (k, v, a) -> Functions.remove(n.fn, a, v), m);
    }

    private static Object ofWindows(Case.Node n, TimeWindowedKStream<String, String> g) {
        Materialized<String, String, WindowStore<Bytes, byte[]>> m = Materialized.with(Graph.TEXT, Graph.TEXT);
        if (n.retention > 0) {
            m = m.withRetention(Duration.ofMillis(n.retention));
        }
        if (n.kind.equals("reduce")) {
            return g.reduce((a, v) -> Functions.add(n.fn, a, v), m);
        }
        return g.aggregate(() -> Functions.initial(n.fn), (k, v, a) -> Functions.add(n.fn, a, v), m);
    }

    private static Object ofSessions(Case.Node n, SessionWindowedKStream<String, String> g) {
        Materialized<String, String, SessionStore<Bytes, byte[]>> m = Materialized.with(Graph.TEXT, Graph.TEXT);
        if (n.retention > 0) {
            m = m.withRetention(Duration.ofMillis(n.retention));
        }
        if (n.kind.equals("reduce")) {
            return g.reduce((a, v) -> Functions.merge(n.fn, a, v), m);
        }
        return g.aggregate(() -> Functions.initial(n.fn), (k, v, a) -> Functions.add(n.fn, a, v),
                (k, a, b) -> Functions.merge(n.fn, a, b), m);
    }

    /** Several streams into one aggregate, each with an aggregator of its own (fns). */
    static Object cogroup(Case.Node n, List<KStream<String, String>> in) {
        CogroupedKStream<String, String> c = null;
        for (int i = 0; i < in.size(); i++) {
            String fn = n.fns.get(i);
            KGroupedStream<String, String> g = group(n, in.get(i));
            c = c == null
                    ? g.cogroup((k, v, a) -> Functions.add(fn, a, v))
                    : c.cogroup(g, (k, v, a) -> Functions.add(fn, a, v));
        }
        String initial = Functions.initial(n.fns.get(0));
        if (n.window == null) {
            Materialized<String, String, KeyValueStore<Bytes, byte[]>> m =
                    Materialized.with(Graph.TEXT, Graph.TEXT);
            return c.aggregate(() -> initial, m);
        }
        if (n.window.kind.equals("session")) {
            Materialized<String, String, SessionStore<Bytes, byte[]>> m =
                    Materialized.with(Graph.TEXT, Graph.TEXT);
            if (n.retention > 0) {
                m = m.withRetention(Duration.ofMillis(n.retention));
            }
            return c.windowedBy(sessions(n.window))
                    .aggregate(() -> initial, (k, a, b) -> Functions.merge(n.fns.get(0), a, b), m);
        }
        Materialized<String, String, WindowStore<Bytes, byte[]>> m = Materialized.with(Graph.TEXT, Graph.TEXT);
        if (n.retention > 0) {
            m = m.withRetention(Duration.ofMillis(n.retention));
        }
        KTable<Windowed<String>, String> t = n.window.kind.equals("sliding")
                ? c.windowedBy(sliding(n.window)).aggregate(() -> initial, m)
                : c.windowedBy(windows(n.window)).aggregate(() -> initial, m);
        return t;
    }
}
