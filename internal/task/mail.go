package task

import "github.com/tailrace/tailrace/topology"

// Mail carries changes of tables over exchanges, as topics between members do: those that
// a step sends may arrive in a later one, by each exchange in order from one partition to
// another.
type Mail interface {
	// Send takes a message, which is valid during the call.
	Send(e *topology.Exchange, from int, m topology.Message)
	// Arrive yields what arrives in a partition in this step.
	Arrive(e *topology.Exchange, to int, yield func(m topology.Message) error) error
}

// Arrive says that the next step has something to do, whatever has been fed: mail.
func (t *Task) Arrive() { t.fed, t.pending = true, true }

// post sends what a writer has to send, or receives what has arrived.
func (c *cut) post(t *Task, r *topology.Running) error {
	if r.Writer != nil {
		return r.Writer.Messages(&t.step, func(m topology.Message) error {
			c.mail.Send(r.Exchange, r.Partition, m)
			return nil
		})
	}
	return c.mail.Arrive(r.Exchange, r.Partition, func(m topology.Message) error {
		return r.Reader.Receive(m, nil, 0)
	})
}
