package main

import (
	"context"
	"errors"
	"time"

	"evenkeel.test/clients/report"
	"github.com/segmentio/kafka-go"
)

// load produces with the library's defaults (10 attempts, 100 ms to 1 s apart, one batch in flight for each partition), but for acks (its default
// is none) and the batch timeout: the default would delay every record by a second and hide everything.
func load(l *report.Load) (func(report.Record), error) {
	if l.Idempotent {
		return nil, errors.New("the library has no idempotent producer")
	}
	w := &kafka.Writer{
		Addr:         kafka.TCP(l.Bootstrap...),
		Topic:        l.Topic,
		Transport:    &kafka.Transport{ClientID: l.ClientID},
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: 10 * time.Millisecond,
		Async:        true,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int {
			return int(m.WriterData.(report.Record).Partition)
		}),
		Completion: func(messages []kafka.Message, err error) {
			for _, m := range messages {
				l.Done(m.WriterData.(report.Record).N, err)
			}
		},
	}
	return func(r report.Record) {
		if err := w.WriteMessages(context.Background(), kafka.Message{Key: r.Key, Value: r.Value, WriterData: r}); err != nil {
			l.Done(r.N, err)
		}
	}, nil
}
