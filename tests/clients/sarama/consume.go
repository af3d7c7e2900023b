package main

import (
	"context"
	"time"

	"evenkeel.test/clients/report"
	"github.com/IBM/sarama"
)

// consume is a member with the library's defaults: range, session 10 s, marked offsets committed each second, version 2.8.
func consume(ctx context.Context, c *report.Consume) error {
	config := sarama.NewConfig()
	config.ClientID = c.ClientID
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	group, err := sarama.NewConsumerGroup(c.Bootstrap, c.Group, config)
	if err != nil {
		return err
	}
	defer func() { _ = group.Close() }()
	for ctx.Err() == nil {
		// It returns at each rebalance, and is to be called again.
		if err := group.Consume(ctx, []string{c.Topic}, handler{c}); err != nil {
			c.AfterError(ctx, err)
		}
	}
	return nil
}

type handler struct {
	c *report.Consume
}

func (h handler) Setup(s sarama.ConsumerGroupSession) error {
	h.c.Assigned(s.Claims()[h.c.Topic], s.MemberID(), s.GenerationID())
	return nil
}

func (h handler) Cleanup(s sarama.ConsumerGroupSession) error {
	h.c.Revoked(s.Claims()[h.c.Topic], false)
	return nil
}

// ConsumeClaim is as the library's own example has it.
func (h handler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			h.c.Delivered(m.Partition, m.Offset, m.Value, time.Now())
			s.MarkMessage(m, "")
		case <-s.Context().Done():
			return nil
		}
	}
}
