package main

import (
	"evenkeel.test/clients/report"
	"github.com/IBM/sarama"
)

// load produces with the library's defaults but for acks (its default is 1): not idempotent, 3 retries 100 ms apart, 5 requests in flight, no linger.
func load(l *report.Load) (func(report.Record), error) {
	c := sarama.NewConfig()
	c.ClientID = l.ClientID
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	if l.Idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1 // The library insists.
	}
	producer, err := sarama.NewAsyncProducer(l.Bootstrap, c)
	if err != nil {
		return nil, err
	}
	go func() {
		for m := range producer.Successes() {
			l.Done(m.Metadata.(int64), nil)
		}
	}()
	go func() {
		for e := range producer.Errors() {
			l.Done(e.Msg.Metadata.(int64), e.Err)
		}
	}()
	return func(r report.Record) {
		producer.Input() <- &sarama.ProducerMessage{
			Topic:     l.Topic,
			Partition: r.Partition,
			Key:       sarama.ByteEncoder(r.Key),
			Value:     sarama.ByteEncoder(r.Value),
			Metadata:  r.N,
		}
	}, nil
}
