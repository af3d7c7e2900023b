// The conformance scenario with sarama.
// What it prints is described in tests/clients/README.md.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"evenkeel.test/clients/report"
	"github.com/IBM/sarama"
)

const partitions = report.Partitions

type run struct {
	*report.Run
}

func main() {
	if report.Loads() {
		report.MainLoad("sarama", "github.com/IBM/sarama", load)
	}
	if report.Consumes() {
		report.MainConsume("sarama", "github.com/IBM/sarama", consume)
	}
	report.Main("sarama", "github.com/IBM/sarama", func(r *report.Run) { (&run{r}).scenario() })
}

func (r *run) config() *sarama.Config {
	c := sarama.NewConfig()
	c.ClientID = r.ClientID
	c.Version = sarama.MaxVersion
	c.Net.Proxy.Enable = true
	c.Net.Proxy.Dialer = r
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	return c
}

func (r *run) learn(c sarama.Client) {
	for _, b := range c.Brokers() {
		r.Told(b.Addr())
	}
}

func (r *run) scenario() {
	client, err := sarama.NewClient(r.Bootstrap, r.config())
	if err != nil {
		r.Step("create_topic", func() (string, error) { return "connect", err })
		return
	}
	defer client.Close()
	admin, err := sarama.NewClusterAdmin(r.Bootstrap, r.config())
	if err != nil {
		r.Step("create_topic", func() (string, error) { return "connect", err })
		return
	}
	defer admin.Close()
	created := r.Step("create_topic", func() (string, error) {
		if err := admin.CreateTopic(r.Topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 3}, false); err != nil {
			return "", err
		}
		return "", r.Eventually("the new topic in metadata", func() bool {
			if client.RefreshMetadata(r.Topic) != nil {
				return false
			}
			ps, err := client.WritablePartitions(r.Topic)
			return err == nil && len(ps) == partitions
		})
	})
	if !created {
		return
	}
	r.produceAndReadBack(client)
	r.groupRebalance()
	r.commitAndResume()
	r.seekByTime(client)
	r.transaction(client)
	r.learn(client)
	r.Step("list_groups", func() (string, error) {
		groups, err := admin.ListConsumerGroups()
		if err != nil {
			return "", err
		}
		if _, ok := groups[r.Topic+"-commit"]; !ok {
			return "", fmt.Errorf("%s is not among %v", r.Topic+"-commit", groups)
		}
		return fmt.Sprintf("%d groups", len(groups)), nil
	})
	r.Step("describe_cluster", func() (string, error) {
		brokers, controller, err := admin.DescribeCluster()
		if err != nil {
			return "", err
		}
		for _, b := range brokers {
			r.Told(b.Addr())
		}
		if len(brokers) < 3 || controller < 0 {
			return "", fmt.Errorf("brokers %v, controller %d", brokers, controller)
		}
		return fmt.Sprintf("%d brokers", len(brokers)), nil
	})
	r.Step("delete_topic", func() (string, error) {
		if err := admin.DeleteTopic(r.Topic); err != nil {
			return "", err
		}
		return "", r.Eventually("metadata without the topic", func() bool {
			topics, err := admin.ListTopics()
			_, listed := topics[r.Topic]
			return err == nil && !listed
		})
	})
}

func (r *run) produceAndReadBack(client sarama.Client) {
	series := report.NewSeries()
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD} {
		for _, idempotent := range []bool{false, true} {
			tag := "produce_" + codec.String()
			config := r.config()
			config.Producer.Compression = codec
			if idempotent {
				tag += "_idempotent"
				config.Producer.Idempotent = true
				config.Net.MaxOpenRequests = 1
			}
			series.Produced(tag, r.produce(config, series, tag))
		}
	}
	ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
	defer cancel()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err == nil {
		for p := int32(0); p < partitions && err == nil; p++ {
			err = readPartition(ctx, client, consumer, r.Topic, p, sarama.OffsetOldest, func(m *sarama.ConsumerMessage) {
				series.Seen(m.Partition, m.Value)
			})
		}
	}
	series.Report(r.Run)
}

func (r *run) produce(config *sarama.Config, series *report.Series, tag string) error {
	producer, err := sarama.NewSyncProducer(r.Bootstrap, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for n := 0; n < report.RecordsPerTag; n++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: r.Topic, Partition: int32(n % partitions), Value: sarama.ByteEncoder(series.Value(tag, n))})
	}
	return producer.SendMessages(messages)
}

// readPartition reads up to the end that the partition has at the start.
func readPartition(ctx context.Context, client sarama.Client, consumer sarama.Consumer, topic string, p int32, from int64, seen func(*sarama.ConsumerMessage)) error {
	end, err := client.GetOffset(topic, p, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	pc, err := consumer.ConsumePartition(topic, p, from)
	if err != nil {
		return err
	}
	defer pc.Close()
	for {
		select {
		case m := <-pc.Messages():
			seen(m)
			if m.Offset >= end-1 {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// member is one consumer of a group that keeps its session and knows what it is assigned.
type member struct {
	group   sarama.ConsumerGroup
	mu      sync.Mutex
	has     int
	onClaim func(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim)
	stop    context.CancelFunc
	done    chan struct{}
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	m.set(len(s.Claims()[m.topic(s)]))
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.set(0)
	return nil
}

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	if m.onClaim != nil {
		m.onClaim(s, c)
	}
	<-s.Context().Done()
	return nil
}

func (m *member) topic(s sarama.ConsumerGroupSession) string {
	for topic := range s.Claims() {
		return topic
	}
	return ""
}

func (m *member) set(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.has = n
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has
}

func (r *run) join(group string, onClaim func(sarama.ConsumerGroupSession, sarama.ConsumerGroupClaim)) (*member, error) {
	config := r.config()
	config.Consumer.Offsets.AutoCommit.Enable = false
	g, err := sarama.NewConsumerGroup(r.Bootstrap, group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(r.Ctx)
	m := &member{group: g, onClaim: onClaim, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{r.Topic}, m); err != nil {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	return m, nil
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.group.Close()
}

func (r *run) groupRebalance() {
	r.Step("group_rebalance", func() (string, error) {
		group := r.Topic + "-rebalance"
		a, err := r.join(group, nil)
		if err != nil {
			return "", err
		}
		defer a.leave()
		if err := r.Eventually("all partitions at the only member", func() bool { return a.count() == partitions }); err != nil {
			return "", err
		}
		b, err := r.join(group, nil)
		if err != nil {
			return "", err
		}
		err = r.Eventually("half the partitions at each of two members", func() bool { return a.count() == partitions/2 && b.count() == partitions/2 })
		b.leave()
		if err != nil {
			return "", err
		}
		return "6, 3+3, 6", r.Eventually("all partitions back at the first member", func() bool { return a.count() == partitions })
	})
}

func (r *run) commitAndResume() {
	r.Step("commit_resume", func() (string, error) {
		group := r.Topic + "-commit"
		var mu sync.Mutex
		marked := 0
		a, err := r.join(group, func(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) {
			select {
			case <-c.Messages():
			case <-s.Context().Done():
				return
			}
			s.MarkOffset(c.Topic(), c.Partition(), int64(c.Partition()+3), "")
			s.Commit()
			mu.Lock()
			marked++
			mu.Unlock()
		})
		if err != nil {
			return "", err
		}
		err = r.Eventually("a commit for each partition", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return marked >= partitions
		})
		a.leave()
		if err != nil {
			return "", err
		}
		first := map[int32]int64{}
		b, err := r.join(group, func(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) {
			select {
			case m := <-c.Messages():
				mu.Lock()
				first[m.Partition] = m.Offset
				mu.Unlock()
			case <-s.Context().Done():
			}
		})
		if err != nil {
			return "", err
		}
		defer b.leave()
		if err := r.Eventually("a record of each partition", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(first) == partitions
		}); err != nil {
			return "", err
		}
		mu.Lock()
		defer mu.Unlock()
		for p, at := range first {
			if at != int64(p+3) {
				return "", fmt.Errorf("partition %d resumed at %d, committed %d", p, at, p+3)
			}
		}
		return "", nil
	})
}

func (r *run) seekByTime(client sarama.Client) {
	r.Step("seek_by_time", func() (string, error) {
		producer, err := sarama.NewSyncProducer(r.Bootstrap, r.config())
		if err != nil {
			return "", err
		}
		defer producer.Close()
		start := time.Now().Add(time.Minute).Truncate(time.Millisecond)
		var want int64
		for i := 0; i < 3; i++ {
			_, at, err := producer.SendMessage(&sarama.ProducerMessage{Topic: r.Topic, Partition: 1, Timestamp: start.Add(time.Duration(i) * time.Second), Value: sarama.StringEncoder("timed")})
			if err != nil {
				return "", err
			}
			if i == 1 {
				want = at
			}
		}
		got, err := client.GetOffset(r.Topic, 1, start.Add(500*time.Millisecond).UnixMilli())
		if err != nil {
			return "", err
		}
		if got != want {
			return "", fmt.Errorf("listed offset %d, wanted %d", got, want)
		}
		consumer, err := sarama.NewConsumerFromClient(client)
		if err != nil {
			return "", err
		}
		first := int64(-1)
		err = readPartition(r.Ctx, client, consumer, r.Topic, 1, got, func(m *sarama.ConsumerMessage) {
			if first < 0 {
				first = m.Offset
			}
		})
		if err == nil && first != want {
			err = fmt.Errorf("first record at %d, wanted %d", first, want)
		}
		return "", err
	})
}

func (r *run) transaction(client sarama.Client) {
	r.Step("transaction", func() (string, error) {
		from := map[int32]int64{}
		for p := int32(0); p < partitions; p++ {
			at, err := client.GetOffset(r.Topic, p, sarama.OffsetNewest)
			if err != nil {
				return "", err
			}
			from[p] = at
		}
		config := r.config()
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
		config.Producer.Transaction.ID = r.Topic + "-txn"
		producer, err := sarama.NewSyncProducer(r.Bootstrap, config)
		if err != nil {
			return "", err
		}
		defer producer.Close()
		for _, value := range []string{"committed", "aborted", "committed-2"} {
			if err := producer.BeginTxn(); err != nil {
				return "begin", err
			}
			for i := 0; i < 12; i++ {
				if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: r.Topic, Partition: int32(i % partitions), Value: sarama.StringEncoder(value)}); err != nil {
					return "produce " + value, err
				}
			}
			end := producer.CommitTxn
			if value == "aborted" {
				end = producer.AbortTxn
			}
			if err := end(); err != nil {
				return "end " + value, err
			}
		}
		config = r.config()
		config.Consumer.IsolationLevel = sarama.ReadCommitted
		consumer, err := sarama.NewConsumer(r.Bootstrap, config)
		if err != nil {
			return "", err
		}
		defer consumer.Close()
		ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
		defer cancel()
		var mu sync.Mutex
		seen := map[string]int{}
		for p := int32(0); p < partitions; p++ {
			pc, err := consumer.ConsumePartition(r.Topic, p, from[p])
			if err != nil {
				return "", err
			}
			go func() {
				for m := range pc.Messages() {
					mu.Lock()
					seen[string(m.Value)]++
					mu.Unlock()
				}
			}()
			defer pc.AsyncClose()
		}
		for ctx.Err() == nil {
			mu.Lock()
			done := seen["committed-2"] >= 12
			mu.Unlock()
			if done {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		if seen["committed"] != 12 || seen["aborted"] != 0 || seen["committed-2"] != 12 {
			return "", fmt.Errorf("a read_committed consumer saw %v", seen)
		}
		return "24 committed seen, 12 aborted not", nil
	})
}
