package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/dev"
)

func newDev() *cobra.Command {
	var opts dev.Options
	var length time.Duration
	c := &cobra.Command{
		Use:   "dev",
		Short: "A Kafka broker in this process, with a shop's topics, to try Kafka mode",
		Long: `Runs a Kafka broker in this process, with the topics that Debezium would write of a shop, and
goes on with the shop: orders, customers and lines change, come and go. It prints its address
and how to run the examples over it.

It is for development: the broker is no Apache Kafka, keeps everything in memory and loses it
at the end. Anybody who reaches the address may read and write.`,
		Example: `  tailrace dev
  tailrace dev --listen 127.0.0.1:9092 --rate 50
  go run ./examples/revenue -brokers 127.0.0.1:9092 -topics shop`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if length < 0 || opts.Rate < 0 || opts.Orders < 0 || opts.Partitions < 0 {
				return inputError{errors.New("--for, --rate, --orders and --partitions must not be negative")}
			}
			ctx := c.Context()
			d, err := dev.Start(ctx, opts)
			if errors.Is(err, dev.ErrListen) {
				return environmentError{err}
			}
			if err != nil {
				return err
			}
			defer d.Close()
			d.Help(c.OutOrStdout())
			if length > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, length)
				defer cancel()
			} else {
				fmt.Fprintln(c.OutOrStdout(), "Ctrl-C ends it.")
			}
			return d.Run(ctx)
		},
	}
	f := c.Flags()
	f.DurationVar(&length, "for", 0, "end after this time (default: with Ctrl-C)")
	f.StringVar(&opts.Listen, "listen", "127.0.0.1:0", "address of the broker; port 0 takes a free one")
	f.StringVar(&opts.Prefix, "prefix", "shop", "what the names of the topics begin with")
	f.Int32Var(&opts.Partitions, "partitions", 3, "how many partitions each topic has")
	f.IntVar(&opts.Rate, "rate", 5, "transactions of the shop per second")
	f.IntVar(&opts.Orders, "orders", 100, "how many orders the shop begins with")
	return c
}
