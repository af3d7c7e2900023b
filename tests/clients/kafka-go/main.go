// The conformance scenario with segmentio/kafka-go.
// What it prints is described in tests/clients/README.md.
package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"evenkeel.test/clients/report"
	"github.com/segmentio/kafka-go"
)

const partitions = report.Partitions

type run struct {
	*report.Run
	transport *kafka.Transport
	client    *kafka.Client
	dialer    *kafka.Dialer
}

func main() {
	if report.Loads() {
		report.MainLoad("kafka-go", "github.com/segmentio/kafka-go", load)
	}
	if report.Consumes() {
		report.MainConsume("kafka-go", "github.com/segmentio/kafka-go", consume)
	}
	report.Main("kafka-go", "github.com/segmentio/kafka-go", func(r *report.Run) {
		transport := &kafka.Transport{Dial: r.DialContext, ClientID: r.ClientID}
		(&run{
			Run:       r,
			transport: transport,
			client:    &kafka.Client{Addr: kafka.TCP(r.Bootstrap...), Transport: transport, Timeout: 10 * time.Second},
			dialer:    &kafka.Dialer{ClientID: r.ClientID, DialFunc: r.DialContext, Timeout: 10 * time.Second},
		}).scenario()
	})
}

func (r *run) metadata() (*kafka.MetadataResponse, error) {
	m, err := r.client.Metadata(r.Ctx, &kafka.MetadataRequest{})
	if err != nil {
		return nil, err
	}
	for _, b := range m.Brokers {
		r.Told(net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
	}
	return m, nil
}

// listed says with how many partitions metadata shows the topic.
func (r *run) listed() int {
	m, err := r.metadata()
	if err != nil {
		return -1
	}
	for _, t := range m.Topics {
		if t.Name == r.Topic {
			return len(t.Partitions)
		}
	}
	return 0
}

func (r *run) scenario() {
	created := r.Step("create_topic", func() (string, error) {
		resp, err := r.client.CreateTopics(r.Ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: r.Topic, NumPartitions: partitions, ReplicationFactor: 3}}})
		if err != nil {
			return "", err
		}
		if err := resp.Errors[r.Topic]; err != nil {
			return "", err
		}
		return "", r.Eventually("the new topic in metadata", func() bool { return r.listed() == partitions })
	})
	if !created {
		return
	}
	r.produceAndReadBack()
	r.groupRebalance()
	r.commitAndResume()
	r.seekByTime()
	r.Unsupported("transaction", "the library has no transactional producer")
	r.Step("list_groups", func() (string, error) {
		resp, err := r.client.ListGroups(r.Ctx, &kafka.ListGroupsRequest{})
		if err != nil {
			return "", err
		}
		if resp.Error != nil {
			return "", resp.Error
		}
		for _, g := range resp.Groups {
			if g.GroupID == r.Topic+"-commit" {
				return fmt.Sprintf("%d groups", len(resp.Groups)), nil
			}
		}
		return "", fmt.Errorf("%s is not among %v", r.Topic+"-commit", resp.Groups)
	})
	r.Step("describe_cluster", func() (string, error) {
		m, err := r.metadata()
		if err != nil {
			return "", err
		}
		if len(m.Brokers) < 3 || m.Controller.Host == "" {
			return "", fmt.Errorf("brokers %v, controller %v", m.Brokers, m.Controller)
		}
		return fmt.Sprintf("%d brokers", len(m.Brokers)), nil
	})
	r.Step("delete_topic", func() (string, error) {
		resp, err := r.client.DeleteTopics(r.Ctx, &kafka.DeleteTopicsRequest{Topics: []string{r.Topic}})
		if err != nil {
			return "", err
		}
		if err := resp.Errors[r.Topic]; err != nil {
			return "", err
		}
		return "", r.Eventually("metadata without the topic", func() bool { return r.listed() == 0 })
	})
}

// writer writes each record to the partition that its key names.
func (r *run) writer(codec kafka.Compression) *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(r.Bootstrap...),
		Topic:        r.Topic,
		Transport:    r.transport,
		RequiredAcks: kafka.RequireAll,
		Compression:  codec,
		BatchTimeout: 5 * time.Millisecond,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, _ ...int) int {
			p, _ := strconv.Atoi(string(m.Key))
			return p
		}),
	}
}

func (r *run) reader(partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{Brokers: r.Bootstrap, Topic: r.Topic, Partition: partition, Dialer: r.dialer, MaxWait: 500 * time.Millisecond})
}

func (r *run) produceAndReadBack() {
	series := report.NewSeries()
	for _, codec := range []struct {
		name  string
		codec kafka.Compression
	}{{"none", 0}, {"gzip", kafka.Gzip}, {"snappy", kafka.Snappy}, {"lz4", kafka.Lz4}, {"zstd", kafka.Zstd}} {
		tag := "produce_" + codec.name
		w := r.writer(codec.codec)
		var messages []kafka.Message
		for n := 0; n < report.RecordsPerTag; n++ {
			messages = append(messages, kafka.Message{Key: []byte(strconv.Itoa(n % partitions)), Value: series.Value(tag, n)})
		}
		series.Produced(tag, w.WriteMessages(r.Ctx, messages...))
		w.Close()
	}
	ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
	defer cancel()
	for p := 0; p < partitions; p++ {
		listed, err := r.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{r.Topic: {kafka.LastOffsetOf(p)}}})
		if err != nil || len(listed.Topics[r.Topic]) != 1 {
			continue
		}
		end := listed.Topics[r.Topic][0].LastOffset
		reader := r.reader(p)
		for at := int64(0); at < end; {
			m, err := reader.ReadMessage(ctx)
			if err != nil {
				break
			}
			at = m.Offset + 1
			series.Seen(int32(m.Partition), m.Value)
		}
		reader.Close()
	}
	series.Report(r.Run)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		r.Unsupported("produce_"+codec+"_idempotent", "the library has no idempotent producer")
	}
}

// member is one consumer of a group that takes every generation and knows what it is assigned.
type member struct {
	group *kafka.ConsumerGroup
	mu    sync.Mutex
	has   int
	stop  context.CancelFunc
	done  chan struct{}
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

func (r *run) join(group string) (*member, error) {
	g, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{ID: group, Brokers: r.Bootstrap, Dialer: r.dialer, Topics: []string{r.Topic}, HeartbeatInterval: 500 * time.Millisecond, JoinGroupBackoff: 200 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(r.Ctx)
	m := &member{group: g, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for {
			generation, err := g.Next(ctx)
			if ctx.Err() != nil || err == kafka.ErrGroupClosed {
				return
			}
			if err != nil {
				continue
			}
			m.set(len(generation.Assignments[r.Topic]))
			generation.Start(func(ended context.Context) {
				<-ended.Done()
				m.set(0)
			})
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
		a, err := r.join(group)
		if err != nil {
			return "", err
		}
		defer a.leave()
		if err := r.Eventually("all partitions at the only member", func() bool { return a.count() == partitions }); err != nil {
			return "", err
		}
		b, err := r.join(group)
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

func (r *run) groupReader(group string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{Brokers: r.Bootstrap, GroupID: group, Topic: r.Topic, Dialer: r.dialer, MaxWait: 500 * time.Millisecond, StartOffset: kafka.FirstOffset})
}

func (r *run) commitAndResume() {
	r.Step("commit_resume", func() (string, error) {
		ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
		defer cancel()
		group := r.Topic + "-commit"
		reader := r.groupReader(group)
		committed := map[int]bool{}
		for len(committed) < partitions {
			m, err := reader.FetchMessage(ctx)
			if err != nil {
				reader.Close()
				return "", err
			}
			if m.Offset != int64(m.Partition+2) {
				continue
			}
			if err := reader.CommitMessages(ctx, m); err != nil {
				reader.Close()
				return "", err
			}
			committed[m.Partition] = true
		}
		if err := reader.Close(); err != nil {
			return "", err
		}
		reader = r.groupReader(group)
		defer reader.Close()
		first := map[int]int64{}
		for len(first) < partitions {
			m, err := reader.FetchMessage(ctx)
			if err != nil {
				return "", err
			}
			if _, seen := first[m.Partition]; !seen {
				first[m.Partition] = m.Offset
			}
		}
		for p, at := range first {
			if at != int64(p+3) {
				return "", fmt.Errorf("partition %d resumed at %d, committed %d", p, at, p+3)
			}
		}
		return "", nil
	})
}

func (r *run) seekByTime() {
	r.Step("seek_by_time", func() (string, error) {
		w := r.writer(0)
		defer w.Close()
		start := time.Now().Add(time.Minute).Truncate(time.Millisecond)
		for i := 0; i < 3; i++ {
			if err := w.WriteMessages(r.Ctx, kafka.Message{Key: []byte("1"), Value: []byte("timed-" + strconv.Itoa(i)), Time: start.Add(time.Duration(i) * time.Second)}); err != nil {
				return "", err
			}
		}
		ctx, cancel := context.WithTimeout(r.Ctx, report.WaitMax)
		defer cancel()
		reader := r.reader(1)
		defer reader.Close()
		if err := reader.SetOffsetAt(ctx, start.Add(500*time.Millisecond)); err != nil {
			return "", err
		}
		m, err := reader.ReadMessage(ctx)
		if err == nil && string(m.Value) != "timed-1" {
			err = fmt.Errorf("the first record is %q at %d, wanted timed-1", m.Value, m.Offset)
		}
		return "", err
	})
}
