// CRC-32, and values of events as JSON.
const table = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 ? 0xedb88320 : 0);
  return byte;
});
export const crc32 = (data, value = 0) => ~data.reduce((crc, byte) => table[(crc ^ byte) & 255] ^ (crc >>> 8), ~value) >>> 0;

export function json(value) { // JSON.stringify has no integers beyond 53 bits, and makes 1 of 1.0
  if (typeof value === "bigint") return String(value);
  if (Object.is(value, -0)) return "-0.0";
  if (Number.isInteger(value)) return value.toFixed(1);
  if (typeof value === "number") return JSON.stringify(Number.isFinite(value) ? value : String(value));
  if (Buffer.isBuffer(value)) return JSON.stringify(value.toString("base64"));
  if (Array.isArray(value)) return `[${value.map(json).join(",")}]`;
  if (value instanceof Map) return `{${[...value].map((entry) => entry.map(json).join(":")).join(",")}}`;
  return JSON.stringify(value);
}
