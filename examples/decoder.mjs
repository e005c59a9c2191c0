// Reads record batches and journal segments without any library, as docs/wire-format.md describes them:
//     node examples/decoder.mjs FILE...
// prints a JSON line for each event and for each gap.  It reads what nobody writes any more; Node.js 18 or later.
import { readFileSync } from "node:fs";
import { inflateSync } from "node:zlib";
import { unpack } from "./messagepack.mjs";

const table = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 ? 0xedb88320 : 0);
  return byte;
});
const crc32 = (data, value = 0) => ~data.reduce((crc, byte) => table[(crc ^ byte) & 255] ^ (crc >>> 8), ~value) >>> 0;

function json(value) { // JSON.stringify has no integers beyond 53 bits, and makes 1 of 1.0
  if (typeof value === "bigint") return String(value);
  if (Object.is(value, -0)) return "-0.0";
  if (Number.isInteger(value)) return value.toFixed(1);
  if (typeof value === "number") return JSON.stringify(Number.isFinite(value) ? value : String(value));
  if (Buffer.isBuffer(value)) return JSON.stringify(value.toString("base64"));
  if (Array.isArray(value)) return `[${value.map(json).join(",")}]`;
  if (value instanceof Map) return `{${[...value].map((entry) => entry.map(json).join(":")).join(",")}}`;
  return JSON.stringify(value);
}

const print = (line) => console.log(json(new Map(Object.entries(line))));

function printEvent(line, body) {
  try {
    line.event = unpack(body);
  } catch (error) {
    [line.error, line.raw] = [error.message, body]; // keep what cannot be read, and go on
  }
  print(line);
}

function printBatch(data) {
  if (data[3] !== 0x31 || data[4] > 1) throw new Error("a record batch of a newer version");
  if (data.readUInt32LE(36) !== crc32(data.subarray(40), crc32(data.subarray(0, 36)))) throw new Error("checksum");
  const producer_id = data.toString("hex", 8, 24);
  const payload = data[4] ? inflateSync(data.subarray(40), { maxOutputLength: 1 << 27 }) : data.subarray(40);
  for (let at = 0, end, seq = data.readBigUInt64LE(24); at < payload.length; at = end, seq++) {
    end = at + 12 + payload.readUInt32LE(at);
    printEvent({ producer_id, seq, emit_ts: payload.readBigInt64LE(at + 4) }, payload.subarray(at + 12, end));
  }
}

function printSegment(data) {
  if (data.readUInt32LE(8) !== crc32(data.subarray(12, 56))) throw new Error("the header's checksum is wrong");
  if (data.readUInt32LE(12) !== 1) throw new Error("a segment of a newer version");
  const producer_id = data.toString("hex", 16, 32), seed = crc32(data.subarray(16, 32));
  const sealed = data.readUInt32LE(56) === (crc32(data.subarray(64, 80)) || 1);
  const stop = sealed ? Number(data.readBigUInt64LE(64)) : data.length;
  const look = (at) => {
    if (at + 24 > stop || !data.readUInt32LE(at + 4)) return {}; // nothing was written here
    const stored = data.readUInt32LE(at), end = at + 24 + data.readUInt32LE(at + 4), behind = Math.ceil(end / 8) * 8;
    const whole = stored && end <= stop && stored === (crc32(data.subarray(at + 4, end), seed) || 1);
    return { whole, unfinished: !stored, seq: data.readBigUInt64LE(at + 8), end, behind };
  };
  for (let at = 4096, expected; at + 24 <= stop;) {
    const { whole, unfinished, seq, end, behind } = look(at);
    const abandoned = unfinished && [undefined, seq + 1n].includes(look(behind).seq); // nothing, or the next, behind
    if (whole && seq > expected) print({ producer_id, first: expected, last: seq - 1n, hole: "lost" });
    if (whole) printEvent({ producer_id, seq, emit_ts: data.readBigInt64LE(at + 16) }, data.subarray(at + 24, end));
    if (abandoned) print({ producer_id, first: seq, last: seq, hole: "abandoned" });
    if (whole || abandoned) [expected, at] = [seq + 1n, behind];
    else at += 8; // the next whole record may lie anywhere behind damage
  }
}

for (const file of process.argv.slice(2)) {
  const data = readFileSync(file);
  const magic = data.toString("latin1", 0, 8);
  if (magic.startsWith("RSB")) printBatch(data);
  else if (magic === "RUNSTRM1") printSegment(data);
  else throw new Error(`${file} is neither a record batch nor a journal segment`);
}
