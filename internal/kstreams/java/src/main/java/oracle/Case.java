package oracle;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.util.ArrayList;
import java.util.List;

/** A case as it comes in: the format is described in case.go. */
@JsonIgnoreProperties(ignoreUnknown = true)
final class Case {
    public long id;
    public List<Node> nodes = new ArrayList<>();
    public List<String> out = new ArrayList<>();
    public List<Input> records = new ArrayList<>();

    /** One operator of the topology. */
    static final class Node {
        public String id;
        public String op;
        public List<String> in = new ArrayList<>();
        public String topic;
        public String kind = "";
        public String by = "";
        public String fn = "";
        public List<String> fns = new ArrayList<>();
        public List<Branch> branches = new ArrayList<>();
        public Window window;
        public boolean close;
        public long limit;
        public long max;
        public long history;
        public Long grace;
        public long retention;
        public boolean store;
    }

    static final class Branch {
        public String name;
        public String fn = "";
    }

    static final class Window {
        public String kind;
        public long size;
        public long advance;
        public long grace;
        public long before;
        public long after;
    }

    static final class Input {
        public String topic;
        public String key;
        public String value;
        public long ts;
    }

    /** What a case's operators put out, for each input in turn. */
    static final class Result {
        public long id;
        public List<List<Output>> steps = new ArrayList<>();
        public String error;
    }

    static final class Output {
        public String node;
        public String key;
        public long[] window;
        public String value;
        public long ts;
    }
}
