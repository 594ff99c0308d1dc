package oracle;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.BranchedKStream;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Builds the topology of a case. A handle is a KStream, a KTable (windowed or not) or a GlobalKTable. */
final class Graph {
    static final Serde<String> TEXT = Serdes.String();

    private final Case spec;
    private final List<Case.Output> outputs;
    private final StreamsBuilder builder = new StreamsBuilder();
    private final Map<String, Object> handles = new HashMap<>();

    Graph(Case spec, List<Case.Output> outputs) {
        this.spec = spec;
        this.outputs = outputs;
    }

    Topology build() {
        for (Case.Node n : spec.nodes) {
            handles.put(n.id, add(n));
        }
        for (String id : spec.out) {
            Object h = handle(id);
            KStream<Object, String> s = h instanceof KTable ? cast(((KTable<?, ?>) h).toStream()) : cast(h);
            s.process((ProcessorSupplier<Object, String, Void, Void>) () -> new Collector(id));
        }
        return builder.build();
    }

    /** Notes what arrives. */
    private final class Collector implements Processor<Object, String, Void, Void> {
        private final String node;

        Collector(String node) {
            this.node = node;
        }

        @Override
        public void process(Record<Object, String> r) {
            Case.Output o = new Case.Output();
            o.node = node;
            o.value = r.value();
            o.ts = r.timestamp();
            if (r.key() instanceof Windowed) {
                Windowed<?> w = (Windowed<?>) r.key();
                o.key = (String) w.key();
                o.window = new long[] {w.window().start(), w.window().end()};
            } else {
                o.key = (String) r.key();
            }
            outputs.add(o);
        }
    }

    private Object add(Case.Node n) {
        switch (n.op) {
            case "stream":
                return builder.stream(n.topic, Consumed.with(TEXT, TEXT));
            case "table":
                return builder.table(n.topic, Consumed.with(TEXT, TEXT), stored(n));
            case "global":
                return builder.globalTable(n.topic, Consumed.with(TEXT, TEXT));
            case "filter":
                return filter(n);
            case "map-values":
                return mapValues(n);
            case "flat-map":
                return stream(n, 0).flatMap((k, v) -> {
                    List<KeyValue<String, String>> out = new ArrayList<>();
                    for (String[] kv : Functions.flat(n.fn, k, v)) {
                        out.add(KeyValue.pair(kv[0], kv[1]));
                    }
                    return out;
                });
            case "map":
                return stream(n, 0).map((k, v) ->
                        KeyValue.pair(Functions.key(n.by, k, v), Functions.value(n.fn, k, v)));
            case "rekey":
                return stream(n, 0).selectKey((k, v) -> Functions.key(n.by, k, v));
            case "merge":
                return merge(n);
            case "split":
                return split(n);
            case "repartition":
                return stream(n, 0).repartition();
            case "process":
                return stream(n, 0).process(Processors.named(n));
            case "deduplicate":
                return stream(n, 0).process(Processors.deduplicate(n));
            case "to-table":
                return stream(n, 0).toTable(stored(n));
            case "to-stream":
                return toStream(n);
            case "aggregate":
                return Aggregations.add(n, handle(n.in.get(0)));
            case "cogroup":
                return Aggregations.cogroup(n, streams(n));
            case "suppress":
                return suppress(n);
            case "join":
                return join(n);
            case "join-foreign-key":
                return joinForeignKey(n);
            default:
                throw new IllegalArgumentException("no operator is called \"" + n.op + "\"");
        }
    }

    private Object handle(String id) {
        Object h = handles.get(id);
        if (h == null) {
            throw new IllegalArgumentException("no node before is called \"" + id + "\"");
        }
        return h;
    }

    @SuppressWarnings("unchecked")
    static <T> T cast(Object o) {
        return (T) o;
    }

    private KStream<String, String> stream(Case.Node n, int i) {
        return cast(handle(n.in.get(i)));
    }

    private KTable<Object, String> table(Case.Node n, int i) {
        return cast(handle(n.in.get(i)));
    }

    private List<KStream<String, String>> streams(Case.Node n) {
        List<KStream<String, String>> out = new ArrayList<>();
        for (int i = 0; i < n.in.size(); i++) {
            out.add(stream(n, i));
        }
        return out;
    }

    /** The store of a table of plain keys: versioned where the node asks for history. */
    private static Materialized<String, String, KeyValueStore<Bytes, byte[]>> stored(Case.Node n) {
        if (n.history > 0) {
            return Materialized.<String, String>as(
                            Stores.persistentVersionedKeyValueStore("store-" + n.id, Duration.ofMillis(n.history)))
                    .withKeySerde(TEXT)
                    .withValueSerde(TEXT);
        }
        return Materialized.<String, String, KeyValueStore<Bytes, byte[]>>with(TEXT, TEXT);
    }

    private static String plain(Object key) {
        return key instanceof Windowed ? (String) ((Windowed<?>) key).key() : (String) key;
    }

    private Object filter(Case.Node n) {
        if (handle(n.in.get(0)) instanceof KTable) {
            if (n.store) {
                KTable<String, String> t = cast(table(n, 0));
                return t.filter((k, v) -> Functions.test(n.fn, k, v), stored(n));
            }
            return table(n, 0).filter((k, v) -> Functions.test(n.fn, plain(k), v));
        }
        return stream(n, 0).filter((k, v) -> Functions.test(n.fn, k, v));
    }

    private Object mapValues(Case.Node n) {
        if (handle(n.in.get(0)) instanceof KTable) {
            if (n.store) {
                KTable<String, String> t = cast(table(n, 0));
                return t.mapValues((k, v) -> Functions.value(n.fn, k, v), stored(n));
            }
            return table(n, 0).mapValues((k, v) -> Functions.value(n.fn, plain(k), v));
        }
        return stream(n, 0).mapValues((k, v) -> Functions.value(n.fn, k, v));
    }

    private Object merge(Case.Node n) {
        KStream<String, String> s = stream(n, 0);
        for (int i = 1; i < n.in.size(); i++) {
            s = s.merge(stream(n, i));
        }
        return s;
    }

    /** Each branch is a node of its own, named split.branch; one without a function takes the rest. */
    private Object split(Case.Node n) {
        BranchedKStream<String, String> b = stream(n, 0).split(Named.as("split-" + n.id + "-"));
        Map<String, KStream<String, String>> all = null;
        for (Case.Branch br : n.branches) {
            if (br.fn.isEmpty()) {
                all = b.defaultBranch(Branched.as(br.name));
                break;
            }
            b = b.branch((k, v) -> Functions.test(br.fn, k, v), Branched.as(br.name));
        }
        if (all == null) {
            all = b.noDefaultBranch();
        }
        Map<String, KStream<String, String>> named = new LinkedHashMap<>(all);
        named.forEach((name, s) -> handles.put(n.id + "." + name.substring(("split-" + n.id + "-").length()), s));
        return this;
    }

    /** A windowed key becomes text, key@start-end. */
    private Object toStream(Case.Node n) {
        KStream<Object, String> s = table(n, 0).toStream();
        return s.selectKey((k, v) -> {
            if (!(k instanceof Windowed)) {
                return (String) k;
            }
            Windowed<?> w = (Windowed<?>) k;
            return w.key() + "@" + w.window().start() + "-" + w.window().end();
        });
    }

    private Object suppress(Case.Node n) {
        if (n.close) {
            KTable<Windowed<String>, String> t = cast(table(n, 0));
            return t.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()));
        }
        Suppressed.BufferConfig<?> buffer = n.max > 0
                ? Suppressed.BufferConfig.maxRecords(n.max)
                : Suppressed.BufferConfig.unbounded();
        return table(n, 0).suppress(Suppressed.untilTimeLimit(Duration.ofMillis(n.limit), buffer));
    }

    private Object join(Case.Node n) {
        Object left = handle(n.in.get(0));
        Object right = handle(n.in.get(1));
        if (left instanceof KTable) {
            return joinTables(n);
        }
        KStream<String, String> s = cast(left);
        if (right instanceof KStream) {
            return joinStreams(n, s, cast(right));
        }
        if (right instanceof GlobalKTable) {
            GlobalKTable<String, String> g = cast(right);
            return n.kind.equals("left")
                    ? s.leftJoin(g, (k, v) -> Functions.key(n.by, k, v), Functions::join)
                    : s.join(g, (k, v) -> Functions.key(n.by, k, v), Functions::join);
        }
        KTable<String, String> t = cast(right);
        Joined<String, String, String> how = Joined.with(TEXT, TEXT, TEXT);
        if (n.grace != null) {
            how = how.withGracePeriod(Duration.ofMillis(n.grace));
        }
        return n.kind.equals("left") ? s.leftJoin(t, Functions::join, how) : s.join(t, Functions::join, how);
    }

    private Object joinTables(Case.Node n) {
        KTable<Object, String> left = table(n, 0);
        KTable<Object, String> right = table(n, 1);
        if (n.store) {
            KTable<String, String> l = cast(left);
            KTable<String, String> r = cast(right);
            switch (n.kind) {
                case "left":
                    return l.leftJoin(r, Functions::join, stored(n));
                case "outer":
                    return l.outerJoin(r, Functions::join, stored(n));
                default:
                    return l.join(r, Functions::join, stored(n));
            }
        }
        switch (n.kind) {
            case "left":
                return left.leftJoin(right, Functions::join);
            case "outer":
                return left.outerJoin(right, Functions::join);
            default:
                return left.join(right, Functions::join);
        }
    }

    private Object joinStreams(Case.Node n, KStream<String, String> l, KStream<String, String> r) {
        JoinWindows w = JoinWindows.ofTimeDifferenceAndGrace(Duration.ZERO, Duration.ofMillis(n.window.grace))
                .before(Duration.ofMillis(n.window.before))
                .after(Duration.ofMillis(n.window.after));
        StreamJoined<String, String, String> how = StreamJoined.with(TEXT, TEXT, TEXT);
        switch (n.kind) {
            case "left":
                return l.leftJoin(r, Functions::join, w, how);
            case "outer":
                return l.outerJoin(r, Functions::join, w, how);
            default:
                return l.join(r, Functions::join, w, how);
        }
    }

    private Object joinForeignKey(Case.Node n) {
        KTable<String, String> left = cast(table(n, 0));
        KTable<String, String> right = cast(table(n, 1));
        return n.kind.equals("left")
                ? left.leftJoin(right, v -> Functions.key(n.by, null, v), Functions::join, stored(n))
                : left.join(right, v -> Functions.key(n.by, null, v), Functions::join, stored(n));
    }
}
