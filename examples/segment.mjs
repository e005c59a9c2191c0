// Reads a journal segment, as docs/wire-format.md describes it.
import { crc32 } from "./bytes.mjs";

export function printSegment(data, print, printEvent) {
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
