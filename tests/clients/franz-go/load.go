package main

import (
	"context"

	"evenkeel.test/clients/report"
	"github.com/twmb/franz-go/pkg/kgo"
)

// load produces with the library's defaults: acks=all, idempotent unless --plain is given, snappy, no linger, 5 s of metadata at the least.
func load(l *report.Load) (func(report.Record), error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.Bootstrap...),
		kgo.ClientID(l.ClientID),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}
	if l.Plain {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	return func(r report.Record) {
		record := &kgo.Record{Topic: l.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		c.Produce(context.Background(), record, func(_ *kgo.Record, err error) { l.Done(r.N, err) })
	}, nil
}
