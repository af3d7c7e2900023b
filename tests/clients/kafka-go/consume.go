package main

import (
	"context"
	"reflect"
	"strings"
	"sync"
	"time"

	"evenkeel.test/clients/report"
	"github.com/segmentio/kafka-go"
)

// consume is a member with the library's defaults: range, session 30 s, and ReadMessage, which commits each record before it returns it.
func consume(ctx context.Context, c *report.Consume) error {
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: c.Bootstrap,
		GroupID: c.Group,
		Topic:   c.Topic,
		// The library's own dialer, but for the name.
		Dialer: &kafka.Dialer{ClientID: c.ClientID, Timeout: kafka.DefaultDialer.Timeout, DualStack: kafka.DefaultDialer.DualStack},
		Logger: &assignments{c: c},
		// Else errors would go to the logger above.
		ErrorLogger: kafka.LoggerFunc(func(string, ...any) {}),
	})
	defer func() { _ = r.Close() }()
	for ctx.Err() == nil {
		m, err := r.ReadMessage(ctx)
		if err == nil {
			c.Delivered(int32(m.Partition), m.Offset, m.Value, time.Now())
		} else if ctx.Err() == nil {
			c.AfterError(ctx, err)
		}
	}
	return nil
}

// assignments are what the library tells of the group nowhere but in its log.
type assignments struct {
	c *report.Consume

	mu         sync.Mutex
	memberID   string
	generation int32
}

// Printf looks for two lines: that of a join, with group, member and generation, and that of an assignment, with topics and partitions.
func (a *assignments) Printf(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case strings.HasPrefix(format, "Joined group") && len(args) == 3:
		a.memberID, _ = args[1].(string)
		a.generation, _ = args[2].(int32)
	case strings.HasPrefix(format, "subscribed to topics and partitions") && len(args) == 1:
		var partitions []int32
		for _, key := range reflect.ValueOf(args[0]).MapKeys() {
			partitions = append(partitions, int32(key.FieldByName("partition").Int()))
		}
		a.c.Assigned(partitions, a.memberID, a.generation)
	}
}
