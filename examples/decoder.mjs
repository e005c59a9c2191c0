// Reads record batches, chunks and journal segments without any library, as docs/wire-format.md describes them:
//     node examples/decoder.mjs FILE...
// prints a JSON line for each event, hole and chunk.  It reads what nobody writes any more; Node.js 18 or later.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { crc32, json } from "./bytes.mjs";
import { unpack } from "./messagepack.mjs";
import { printSegment } from "./segment.mjs";

const print = (line) => console.log(json(new Map(Object.entries(line))));

function printEvent(line, body) {
  try {
    line.event = unpack(body);
  } catch (error) {
    [line.error, line.raw] = [error.message, body]; // keep what cannot be read, and go on
  }
  print(line);
}

function holeOf(body) { // the one event that stands for seqs without any: Abandoned
  if (body[0] >> 4 !== 9 || body[1] !== 20) return null;
  try {
    const [, count = 1n, reason = "abandoned", raw = Buffer.of()] = unpack(body);
    if (typeof count === "bigint" && typeof reason === "string" && Buffer.isBuffer(raw)) return { count, reason, raw };
  } catch {} // no event: it is printed as what it is
  return null;
}

const wholes = new Map(); // by SHA-256: the bytes of chunks, and how many of them are there

function printChunk(data) {
  if (data[3] !== 0x31) throw new Error("a chunk of a newer version");
  if (data.readUInt32LE(56) !== crc32(data.subarray(60), crc32(data.subarray(0, 56)))) throw new Error("checksum");
  const sha256 = data.toString("hex", 8, 40), [size, offset] = [40, 48].map((at) => data.readBigUInt64LE(at));
  const whole = wholes.get(sha256) ?? Buffer.alloc(Number(size));
  wholes.set(sha256, whole);
  data.copy(whole, Number(offset), 60); // with a chunk missing its SHA-256 is wrong
  print({ sha256, size, offset, data: data.subarray(60) });
}

function claimed(claim) {
  const sha256 = claim.toString("hex", 0, 32), whole = wholes.get(sha256);
  if (whole && createHash("sha256").update(whole).digest("hex") === sha256) return whole;
  throw new Error(`the payload ${sha256} did not come before its batch`);
}

const codecs = [(payload) => payload, (payload) => inflateSync(payload, { maxOutputLength: 1 << 27 }), claimed];

function printBatch(data) {
  if (data[3] !== 0x31 || data[4] >= codecs.length) throw new Error("a record batch of a newer version");
  if (data.readUInt32LE(36) !== crc32(data.subarray(40), crc32(data.subarray(0, 36)))) throw new Error("checksum");
  const producer_id = data.toString("hex", 8, 24), payload = codecs[data[4]](data.subarray(40));
  for (let at = 0, end, first = data.readBigUInt64LE(24); at < payload.length; at = end) {
    end = at + 12 + payload.readUInt32LE(at);
    const body = payload.subarray(at + 12, end), hole = holeOf(body), last = first + (hole?.count ?? 1n) - 1n;
    if (hole) print({ producer_id, first, last, hole: hole.reason, raw: hole.raw });
    else printEvent({ producer_id, seq: first, emit_ts: payload.readBigInt64LE(at + 4) }, body);
    first = last + 1n;
  }
}

for (const file of process.argv.slice(2)) {
  const data = readFileSync(file);
  const magic = data.toString("latin1", 0, 8);
  if (magic.startsWith("RSB")) printBatch(data);
  else if (magic.startsWith("RSC")) printChunk(data);
  else if (magic === "RUNSTRM1") printSegment(data, print, printEvent);
  else throw new Error(`${file} is no record batch, chunk or journal segment`);
}
