#!/usr/bin/env node
// Publishes one event to Weir and prints where the server keeps it, as one JSON line.
//
// usage: publish.mjs SERVICE TYPE [DATA]     DATA is JSON. The server is $WEIR_NATS_URL (nats://127.0.0.1:4222).

import { randomBytes, randomUUID } from "node:crypto";
import { encode } from "@msgpack/msgpack";
import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

async function publish(service, type, data) {
  const event = { v: 1, id: randomUUID(), type, source: "node-example", time: Date.now() };
  if (data !== undefined) event.data = data;

  const header = headers();
  // A client that is traced passes its own context on instead.
  header.set("traceparent", `00-${randomBytes(16).toString("hex")}-${randomBytes(8).toString("hex")}-01`);

  const servers = (process.env.WEIR_NATS_URL ?? "nats://127.0.0.1:4222").split(",");
  const connection = await connect({ servers, reconnect: false });
  try {
    // `msgID` becomes the header Nats-Msg-Id: the server drops a second message with the same id. Send the same id
    // again when an ack does not come.
    const ack = await jetstream(connection).publish(`events.${service}`, encode(event), {
      msgID: event.id,
      headers: header,
      timeout: 5000,
    });
    console.log(JSON.stringify({ id: event.id, stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate }));
  } finally {
    await connection.close();
  }
}

const [service, type, json] = process.argv.slice(2);
if (service === undefined || type === undefined || process.argv.length > 5) {
  console.error("usage: publish.mjs SERVICE TYPE [DATA]");
  process.exit(64);
}
let data;
try {
  data = json === undefined ? undefined : JSON.parse(json);
} catch (error) {
  console.error(`publish.mjs: DATA is no JSON: ${error.message}`);
  process.exit(64);
}
publish(service, type, data).catch((error) => {
  console.error(`publish.mjs: not published to events.${service}: ${error.name}: ${error.message}`);
  process.exitCode = 1;
});
