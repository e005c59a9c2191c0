// MessagePack as the events use it; any library with 64-bit integers does.  Integers become BigInt, floats Number,
// bytes Buffer, maps Map (a key may be called __proto__), timestamps ISO 8601 in UTC with microseconds, and claims
// (values too large for their row, which lie in an artifact) the artifact's path.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const suffixes = { text: "txt", bytes: "bin", json: "json" };
const reference = (sha256, _size, kind) => `artifact:claims/${sha256}.${suffixes[kind]}`;

export function unpack(bytes) {
  let at = 0;
  const take = (size) => {
    if (at + size > bytes.length) throw new Error("the event is cut");
    return bytes.subarray(at, at += size);
  };
  const number = (width) => take(width).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const size = (width) => Number(number(width));
  const array = (length) => { const found = []; while (length-- > 0) found.push(value()); return found; };
  const map = (length) => { const found = new Map(); while (length-- > 0) found.set(value(), value()); return found; };
  const extension = (length) => {
    const code = take(1).readInt8(), data = take(length);
    const integer = (from, bits) => BigInt.asIntN(bits, BigInt("0x" + data.toString("hex", from)));
    if (code === 1) return integer(0, length * 8); // an integer beyond 64 bits
    if (code === 2) return reference(...unpack(data));
    if (code !== -1 || ![4, 8, 12].includes(length)) throw new Error(`extension ${code} of ${length} bytes`);
    const seconds = length === 12 ? integer(4, 64) : integer(0, 64) & 0x3ffffffffn;
    const micros = length === 4 ? 0 : Math.floor(data.readUInt32BE() / (length === 8 ? 4000 : 1000));
    const fraction = micros ? "." + String(micros).padStart(6, "0") : "";
    return new Date(Number(seconds) * 1000).toISOString().slice(0, 19) + fraction + "Z";
  };
  const value = () => {
    const type = take(1)[0];
    if (type < 0x80 || type >= 0xe0) return BigInt.asIntN(8, BigInt(type));
    if (type < 0x90) return map(type & 15);
    if (type < 0xa0) return array(type & 15);
    if (type < 0xc0) return utf8.decode(take(type & 31));
    if (type === 0xc1) throw new Error("0xc1 is no MessagePack");
    if (type <= 0xc3) return [null, undefined, false, true][type - 0xc0];
    if (type <= 0xc6) return take(size(1 << (type - 0xc4)));
    if (type <= 0xc9) return extension(size(1 << (type - 0xc7)));
    if (type <= 0xcb) return type === 0xca ? take(4).readFloatBE() : take(8).readDoubleBE();
    if (type <= 0xcf) return number(1 << (type - 0xcc));
    if (type <= 0xd3) return BigInt.asIntN(8 << (type - 0xd0), number(1 << (type - 0xd0)));
    if (type <= 0xd8) return extension(1 << (type - 0xd4));
    if (type <= 0xdb) return utf8.decode(take(size(1 << (type - 0xd9))));
    return type <= 0xdd ? array(size(2 << (type - 0xdc))) : map(size(2 << (type - 0xde)));
  };
  const found = value();
  if (at !== bytes.length) throw new Error("there are bytes behind the event");
  return found;
}
