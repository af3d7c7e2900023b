import java.util.Collection;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.common.TopicPartition;

/** What a member of a group is assigned, printed at each rebalance as tests/clients/README.md says. */
final class Assignment implements ConsumerRebalanceListener {
    private final Program program;
    private final Supplier<ConsumerGroupMetadata> membership;
    private final Set<Integer> partitions = new TreeSet<>();

    Assignment(Program program, Supplier<ConsumerGroupMetadata> membership) {
        this.program = program;
        this.membership = membership;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> added) {
        partitions.addAll(numbers(added));
        ConsumerGroupMetadata member = membership.get();
        print("\"assigned\":" + partitions, ",\"member_id\":" + Report.quoted(member.memberId()) + ",\"generation\":" + member.generationId());
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> taken) {
        partitions.removeAll(numbers(taken));
        if (!taken.isEmpty()) {
            print("\"revoked\":" + numbers(taken), "");
        }
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> taken) {
        partitions.removeAll(numbers(taken));
        print("\"revoked\":" + numbers(taken), ",\"lost\":true");
    }

    private void print(String what, String more) {
        // Closing takes the partitions away too.
        if (!program.stopping()) {
            program.print("{" + what + ",\"at\":" + Program.decimal(Program.unixMs()) + more + "}");
        }
    }

    private static Set<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).collect(Collectors.toCollection(TreeSet::new));
    }
}
