package main

import (
	"context"
	"fmt"
	"time"

	"evenkeel.test/clients/report"
	"github.com/twmb/franz-go/pkg/kgo"
)

// copyAll copies with a session for transactions in a group, as the library advises: cooperative-sticky, session 45 s, stable offsets alone.
func copyAll(ctx context.Context, c *report.Copy) error {
	held := map[int32]bool{}
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(c.Bootstrap...),
		kgo.ClientID(c.ClientID),
		kgo.ConsumerGroup(c.Group),
		kgo.ConsumeTopics(c.From),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.TransactionalID(c.TransactionalID),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// The callbacks come one at a time.
		kgo.OnPartitionsAssigned(func(_ context.Context, client *kgo.Client, added map[string][]int32) {
			for _, p := range added[c.From] {
				held[p] = true
			}
			var all []int32
			for p := range held {
				all = append(all, p)
			}
			memberID, generation := client.GroupMetadata()
			c.Assigned(all, memberID, generation)
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
			for _, p := range taken[c.From] {
				delete(held, p)
			}
			c.Revoked(taken[c.From], false)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
			clear(held)
			c.Revoked(taken[c.From], true)
		}),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for ctx.Err() == nil && !c.Full() {
		fetches := session.PollRecords(ctx, c.PerTransaction)
		for _, e := range fetches.Errors() {
			if ctx.Err() == nil {
				c.Error(fmt.Errorf("%s/%d: %w", e.Topic, e.Partition, e.Err))
			}
		}
		if fetches.NumRecords() > 0 {
			if err := copyOnce(session, c, fetches.Records()); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyOnce returns an error only where no other transaction is possible. To cancel it would be to leave the client in an invalid state.
func copyOnce(session *kgo.GroupTransactSession, c *report.Copy, records []*kgo.Record) error {
	began := time.Now()
	if err := session.Begin(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	produced := kgo.AbortingFirstErrPromise(session.Client())
	for _, r := range records {
		changed := &kgo.Record{Topic: c.To, Partition: r.Partition, Key: r.Key, Value: report.Changed(r.Value)}
		session.Produce(context.Background(), changed, produced.Promise())
	}
	failure := produced.Err()
	committed, err := session.End(context.Background(), kgo.TransactionEndTry(failure == nil))
	if failure != nil {
		c.Error(failure)
	}
	if err != nil {
		return fmt.Errorf("ending a transaction: %w", err)
	}
	if committed {
		c.Committed(len(records), began)
	} else {
		// The session has gone back to what is committed.
		c.Aborted()
	}
	return nil
}
