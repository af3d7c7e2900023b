package main

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"evenkeel.test/clients/report"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consume is a member with the library's defaults: cooperative-sticky, session 45 s, commits every 5 s and when partitions are revoked.
func consume(ctx context.Context, c *report.Consume) error {
	h := &holding{c: c, held: map[int32]bool{}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(c.Bootstrap...),
		kgo.ClientID(c.ClientID),
		kgo.ConsumerGroup(c.Group),
		kgo.ConsumeTopics(c.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(h.assigned),
		kgo.OnPartitionsLost(h.lost),
		kgo.WithLogger(h),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		at := time.Now()
		fetches.EachRecord(func(r *kgo.Record) { c.Delivered(r.Partition, r.Offset, r.Value, at) })
		for _, e := range fetches.Errors() {
			if ctx.Err() == nil {
				c.AfterError(ctx, fmt.Errorf("%s/%d: %w", e.Topic, e.Partition, e.Err))
			}
		}
	}
	return nil
}

// holding knows what the member has. The library tells what is added alone, and to be told what is revoked would be to take over committing
// it: that is read from what the library logs when a session begins. Its callbacks come one at a time.
type holding struct {
	c    *report.Consume
	held map[int32]bool
}

func (h *holding) assigned(_ context.Context, client *kgo.Client, added map[string][]int32) {
	for _, p := range added[h.c.Topic] {
		h.held[p] = true
	}
	memberID, generation := client.GroupMetadata()
	var all []int32
	for p := range h.held {
		all = append(all, p)
	}
	h.c.Assigned(all, memberID, generation)
}

func (h *holding) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	h.held = map[int32]bool{}
	h.c.Revoked(lost[h.c.Topic], true)
}

// Level is that at which the library says what a session takes away.
func (h *holding) Level() kgo.LogLevel { return kgo.LogLevelInfo }

// Log looks for that one line.
func (h *holding) Log(_ kgo.LogLevel, msg string, pairs ...any) {
	if msg != "new group session begun" {
		return
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != "lost" {
			continue
		}
		lost := reflect.ValueOf(pairs[i+1]).Convert(reflect.TypeOf(map[string][]int32{})).Interface().(map[string][]int32)[h.c.Topic]
		for _, p := range lost {
			delete(h.held, p)
		}
		h.c.Revoked(lost, false)
	}
}
