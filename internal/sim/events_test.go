package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tailrace/tailrace/record"
	"github.com/tailrace/tailrace/sources/debezium"
)

// generator makes the changes that producers write to the input topics.
type generator struct {
	plan     *plan
	app      string
	random   *rand.Rand
	encoders map[string]*debezium.Encoder
	lsn      uint64
	number   int64
	there    map[string]bool  // rows, by table and key
	steps    map[string]int64 // of each walk
}

func newGenerator(p *plan, app string) (*generator, error) {
	g := &generator{
		plan: p, app: app, random: rand.New(rand.NewPCG(p.seed, 2)), encoders: map[string]*debezium.Encoder{},
		there: map[string]bool{}, steps: map[string]int64{},
	}
	for _, name := range p.shape.inputs {
		var err error
		if g.encoders[name], err = debezium.NewEncoder(debezium.EncoderConfig{
			Prefix: app, DB: "shop", Table: table(name),
		}); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// next returns the records of the next change, and what it is of.
func (g *generator) next(at time.Time) (of string, records []*kgo.Record, err error) {
	r := g.random
	name := g.plan.shape.inputs[r.IntN(len(g.plan.shape.inputs))]
	key := fmt.Sprintf("k%d", r.IntN(40))
	values := map[string]any{}
	switch name {
	case "orders":
		values["customer"], values["cents"] = fmt.Sprintf("c%d", r.IntN(7)), r.IntN(1000)
	case "rates":
		values["percent"] = r.IntN(30)
	case "customers":
		key = fmt.Sprintf("c%d", r.IntN(7))
		values["name"] = fmt.Sprintf("name%d", r.IntN(1000))
	case "clicks":
		g.number++
		values["number"], values["card"] = g.number, fmt.Sprintf("card%d", r.IntN(7))
	case "limits":
		key = fmt.Sprintf("card%d", r.IntN(7))
		values["cents"] = r.IntN(1000)
	case "steps":
		g.steps[key]++
		values["walk"], values["number"] = key+"!", g.steps[key]
	}
	row, op := name+"/"+key, byte('c')
	switch stream := name == "clicks" || name == "steps"; {
	case stream:
	case g.there[row] && r.IntN(4) == 0:
		op, values = 'd', nil
	case g.there[row]:
		op = 'u'
	}
	g.there[row] = op != 'd'
	records, err = g.records(name, key, op, values, at)
	return key, records, err
}

func (g *generator) records(
	name, key string, op byte, values map[string]any, at time.Time,
) (out []*kgo.Record, err error) {
	rec := &kgo.Record{Topic: g.app + ".public." + name, Key: []byte(key), Timestamp: at}
	out = append(out, rec)
	if !g.plan.debezium {
		if values != nil {
			rec.Value, err = json.Marshal(values)
		}
		return out, err
	}
	tuple := record.Tuple{{Kind: record.Text, Data: []byte(key)}}
	for _, c := range columns[name] {
		v := record.Value{}
		if values != nil {
			v = record.Value{Kind: record.Text, Data: []byte(fmt.Sprint(values[c.Name]))}
		}
		tuple = append(tuple, v)
	}
	g.lsn += 56
	change := debezium.EncodedChange{Op: op, After: tuple, Time: at.UnixMicro(), Source: debezium.Source{
		Time: at.UnixMicro(), XID: uint32(g.lsn / 56), LSN: g.lsn,
	}}
	if op == 'd' {
		change.Before, change.After = tuple, nil
		out = append(out, &kgo.Record{Topic: rec.Topic, Timestamp: at})
	}
	if rec.Key, err = g.encoders[name].AppendKey(nil, tuple); err != nil {
		return nil, err
	}
	rec.Value, err = g.encoders[name].AppendValue(nil, &change)
	for _, r := range out {
		r.Key = rec.Key
	}
	return out, err
}

// keyOf is the key of a windowed row as the oracle calls it.
func keyOf(card string, start int64) string { return card + " " + strconv.FormatInt(start, 10) }
