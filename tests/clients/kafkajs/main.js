// The conformance scenario with kafkajs.
// What it prints is described in tests/clients/README.md.
'use strict'

const net = require('net')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const { version } = require('kafkajs/package.json')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

const PARTITIONS = 6
const RECORDS_PER_TAG = 60
const WAIT_MAX_MS = 30_000
const SCENARIO_TIME_MAX_MS = 150_000

if (process.argv.length < 3) {
  console.error('usage: main.js BOOTSTRAP --out json')
  process.exit(2)
}

const clientId = `conformance-kafkajs-${version}`
const topic = `${clientId}-${Date.now()}`
const told = new Set()
const dialled = new Set()
let failed = false

const kafka = new Kafka({
  clientId,
  brokers: process.argv[2].split(','),
  logLevel: logLevel.NOTHING,
  socketFactory: ({ host, port, onConnect }) => {
    dialled.add(`${host}:${port}`)
    return net.connect({ host, port }, onConnect)
  },
})

const emit = line => process.stdout.write(JSON.stringify(line) + '\n')
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))
const sorted = set => [...set].sort()

async function step(name, f) {
  try {
    emit({ step: name, ok: true, detail: (await f()) || '' })
    return true
  } catch (e) {
    failed = true
    emit({ step: name, ok: false, detail: String(e) })
    return false
  }
}

async function eventually(what, holds) {
  const until = Date.now() + WAIT_MAX_MS
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`never seen: ${what}`)
    await sleep(20)
  }
}

async function using(client, f) {
  await client.connect()
  try {
    return await f(client)
  } finally {
    await client.disconnect()
  }
}

async function learn(admin) {
  const cluster = await admin.describeCluster()
  for (const b of cluster.brokers) told.add(`${b.host}:${b.port}`)
  return cluster
}

// byNumber puts a record into the partition that it names.
const byNumber = () => ({ message }) => Number(message.headers.partition)
const record = (partition, value, more = {}) => ({ headers: { partition: String(partition) }, value, ...more })

// readAll runs a consumer in a group of its own until done() holds; kafkajs reads in groups only.
async function readAll(name, options, done, seen, ready = () => {}) {
  const consumer = kafka.consumer({ groupId: `${topic}-${name}`, heartbeatInterval: 500, maxWaitTimeInMs: 500, ...options })
  await using(consumer, async () => {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => seen(partition, message) })
    await ready(consumer)
    await eventually(`all records at ${name}`, done)
    await consumer.stop()
  })
}

async function produceAndReadBack() {
  const tags = []
  const failures = {}
  let missing = 0
  for (const [name, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy]]) {
    for (const idempotent of [false, true]) {
      const tag = `produce_${name}${idempotent ? '_idempotent' : ''}`
      tags.push(tag)
      const messages = []
      for (let n = 0; n < RECORDS_PER_TAG; n++) {
        messages.push(record(n % PARTITIONS, `${tag}:${Math.floor(n / PARTITIONS)}:${'evenkeel'.repeat(20)}`))
      }
      try {
        const producer = kafka.producer({ createPartitioner: byNumber, idempotent, allowAutoTopicCreation: false })
        await using(producer, () => producer.send({ topic, messages, compression, acks: -1 }))
        missing += RECORDS_PER_TAG
      } catch (e) {
        failures[tag] = e
      }
    }
  }
  const next = {}
  try {
    await readAll('readback', {}, () => missing <= 0, (partition, message) => {
      const [tag, seq] = message.value.toString().split(':')
      const key = `${tag}/${partition}`
      const due = next[key] || 0
      if (Number(seq) !== due) failures[tag] = failures[tag] || new Error(`partition ${partition}: record ${seq} where ${due} was due`)
      next[key] = due + 1
      missing--
    })
  } catch (e) {
    for (const tag of tags) failures[tag] = failures[tag] || e
  }
  for (const tag of tags) {
    await step(tag, async () => {
      if (failures[tag]) throw failures[tag]
      for (let p = 0; p < PARTITIONS; p++) {
        const n = next[`${tag}/${p}`] || 0
        if (n !== RECORDS_PER_TAG / PARTITIONS) throw new Error(`partition ${p}: ${n} of ${RECORDS_PER_TAG / PARTITIONS} records read back`)
      }
      return `${RECORDS_PER_TAG} records`
    })
  }
  for (const name of ['lz4', 'zstd']) {
    for (const kind of ['', '_idempotent']) emit({ step: `produce_${name}${kind}`, unsupported: 'the library has no such codec of its own' })
  }
}

async function join(groupId) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 500, maxWaitTimeInMs: 500 })
  const member = { count: 0, leave: () => consumer.disconnect() }
  consumer.on(consumer.events.GROUP_JOIN, e => {
    member.count = (e.payload.memberAssignment[topic] || []).length
  })
  consumer.on(consumer.events.REBALANCING, () => {
    member.count = 0
  })
  await consumer.connect()
  await consumer.subscribe({ topic })
  await consumer.run({ eachMessage: async () => {} })
  return member
}

async function groupRebalance() {
  const group = `${topic}-rebalance`
  const a = await join(group)
  try {
    await eventually('all partitions at the only member', () => a.count === PARTITIONS)
    const b = await join(group)
    try {
      await eventually('half the partitions at each of two members', () => a.count === PARTITIONS / 2 && b.count === PARTITIONS / 2)
    } finally {
      await b.leave()
    }
    await eventually('all partitions back at the first member', () => a.count === PARTITIONS)
    return '6, 3+3, 6'
  } finally {
    await a.leave()
  }
}

async function commitAndResume() {
  const offsets = [...Array(PARTITIONS).keys()].map(partition => ({ topic, partition, offset: String(partition + 3) }))
  const seen = {}
  await readAll('commit', {}, () => Object.keys(seen).length === PARTITIONS, (partition, message) => {
    seen[partition] = message.offset
  }, async consumer => {
    await eventually('a record of each partition', () => Object.keys(seen).length === PARTITIONS)
    await consumer.commitOffsets(offsets)
  })
  const first = {}
  await readAll('commit', {}, () => Object.keys(first).length === PARTITIONS, (partition, message) => {
    first[partition] = first[partition] || message.offset
  })
  for (const { partition, offset } of offsets) {
    if (first[partition] !== offset) throw new Error(`partition ${partition} resumed at ${first[partition]}, committed ${offset}`)
  }
}

async function seekByTime(admin) {
  const startMs = Date.now() + 60_000
  const producer = kafka.producer({ createPartitioner: byNumber })
  await using(producer, async () => {
    for (let i = 0; i < 3; i++) {
      await producer.send({ topic, acks: -1, messages: [record(1, `timed-${i}`, { timestamp: String(startMs + i * 1000) })] })
    }
  })
  const found = (await admin.fetchTopicOffsetsByTimestamp(topic, startMs + 500)).find(o => o.partition === 1).offset
  let first
  await readAll('time', {}, () => first !== undefined, (partition, message) => {
    const value = message.value.toString()
    if (partition === 1 && value.startsWith('timed')) first = first || { value, offset: message.offset }
  }, consumer => consumer.seek({ topic, partition: 1, offset: found }))
  if (first.value !== 'timed-1' || first.offset !== found) throw new Error(`found offset ${found}, the first record is ${JSON.stringify(first)}`)
}

async function transaction() {
  const producer = kafka.producer({ createPartitioner: byNumber, idempotent: true, maxInFlightRequests: 1, transactionalId: `${topic}-txn` })
  await using(producer, async () => {
    for (const value of ['committed', 'aborted', 'committed-2']) {
      const t = await producer.transaction()
      for (let i = 0; i < 12; i++) await t.send({ topic, acks: -1, messages: [record(i % PARTITIONS, value)] })
      await (value === 'aborted' ? t.abort() : t.commit())
    }
  })
  const seen = { committed: 0, aborted: 0, 'committed-2': 0 }
  await readAll('read-committed', { readUncommitted: false }, () => seen['committed-2'] >= 12, (_, message) => {
    const value = message.value.toString()
    if (value in seen) seen[value]++
  })
  if (seen.committed !== 12 || seen.aborted !== 0 || seen['committed-2'] !== 12) {
    throw new Error(`a read_committed consumer saw ${JSON.stringify(seen)}`)
  }
  return '24 committed seen, 12 aborted not'
}

async function scenario(admin) {
  const listed = async () => (await admin.listTopics()).includes(topic)
  const created = await step('create_topic', async () => {
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 3 }], waitForLeaders: true })
    await eventually('the new topic in metadata', listed)
  })
  if (!created) return
  await produceAndReadBack()
  await step('group_rebalance', groupRebalance)
  await step('commit_resume', commitAndResume)
  await step('seek_by_time', () => seekByTime(admin))
  await step('transaction', transaction)
  await step('list_groups', async () => {
    const groups = (await admin.listGroups()).groups.map(g => g.groupId)
    if (!groups.includes(`${topic}-commit`)) throw new Error(`${topic}-commit is not among ${groups}`)
    return `${groups.length} groups`
  })
  await step('describe_cluster', async () => {
    const cluster = await learn(admin)
    if (cluster.brokers.length < 3 || cluster.controller === null) throw new Error(JSON.stringify(cluster))
    return `${cluster.brokers.length} brokers`
  })
  await step('delete_topic', async () => {
    await admin.deleteTopics({ topics: [topic] })
    await eventually('metadata without the topic', async () => !(await listed()))
  })
}

async function main() {
  const overdue = setTimeout(() => {
    emit({ step: 'deadline', ok: false, detail: `not done after ${SCENARIO_TIME_MAX_MS} ms` })
    process.exit(1)
  }, SCENARIO_TIME_MAX_MS)
  emit({ client: 'kafkajs', version })
  try {
    await using(kafka.admin(), scenario)
  } catch (e) {
    await step('connection', () => Promise.reject(e))
  }
  emit({ told: sorted(told) })
  emit({ dialled: sorted(dialled) })
  clearTimeout(overdue)
  process.exit(failed ? 1 : 0)
}

main()
