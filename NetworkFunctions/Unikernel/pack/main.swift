// Packs a machine's image: `pack IMAGE.elf PACKED`. Writes the octets of all its segments, one after
// another as they lie in memory, as one LZ4 block, and prints where they go as definitions for
// unpack.S.
import Glibc

func fail(_ reason: String) -> Never {
  fputs("pack: \(reason)\n", stderr)
  exit(1)
}

func read(_ path: String) -> [UInt8] {
  guard let file = fopen(path, "r") else { fail("\(path) can't be read") }
  defer { fclose(file) }
  var octets: [UInt8] = []
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while case let count = fread(&buffer, 1, buffer.count, file), count > 0 {
    octets += buffer[..<count]
  }
  return octets
}

struct Image {
  var base = 0
  var entry = 0
  /// Where it ends in memory, with what is zero in the beginning.
  var end = 0
  var octets: [UInt8] = []

  /// An ELF file of 64 bits, whose entry is that of its PVH note.
  init(_ file: [UInt8]) {
    func number(_ offset: Int, _ count: Int) -> Int {
      guard offset >= 0, offset + count <= file.count else { fail("the image is cut off") }
      return file[offset..<offset + count].reversed().reduce(0) { $0 << 8 | Int($1) }
    }
    guard file.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]) else { fail("this is no ELF file") }
    entry = number(24, 8)
    let headers = (0..<number(56, 2)).map { number(32, 8) + $0 * number(54, 2) }
    let segments = headers.filter { number($0, 4) == 1 && number($0 + 40, 8) > 0 }
    base = segments.map { number($0 + 24, 8) }.min() ?? 0
    for segment in segments.sorted(by: { number($0 + 24, 8) < number($1 + 24, 8) }) {
      let start = number(segment + 24, 8)
      let (offset, count) = (number(segment + 8, 8), number(segment + 32, 8))
      guard offset + count <= file.count else { fail("the image is cut off") }
      end = start + number(segment + 40, 8)
      guard count > 0 else { continue }
      guard start - base >= octets.count, start - base < 1 << 21 else {
        fail("its segments lie on one another, or far from one another")
      }
      octets += [UInt8](repeating: 0, count: start - base - octets.count)
      octets += file[offset..<offset + count]
    }
  }
}

/// One LZ4 block (lz4_Block_format.md), the shortest that lengths of matches at each place allow.
func compress(_ octets: [UInt8]) -> [UInt8] {
  let count = octets.count
  let shortest = 4
  // The longest match at each place, the nearest of these.
  var length = [Int](repeating: 0, count: count)
  var distance = [Int](repeating: 0, count: count)
  var latest: [UInt32: Int] = [:]
  var earlier = [Int](repeating: -1, count: count)
  for place in stride(from: 0, through: count - shortest, by: 1) {
    let key = (0..<shortest).reduce(UInt32(0)) { $0 << 8 | UInt32(octets[place + $1]) }
    earlier[place] = latest[key] ?? -1
    latest[key] = place
    var candidate = earlier[place]
    var tries = 1024
    while candidate >= 0, place - candidate < 1 << 16, tries > 0 {
      var same = shortest
      while place + same < count, octets[candidate + same] == octets[place + same] { same += 1 }
      if same > length[place] { (length[place], distance[place]) = (same, place - candidate) }
      candidate = earlier[candidate]
      tries -= 1
    }
  }
  // From the end: what the rest costs, where a run of literals or a match begins. A run of more than
  // 14 costs an octet more; which of many runs does is not known here, and is nearly nothing.
  var cost = [Int](repeating: 0, count: count + 1)
  var take = [Int](repeating: 0, count: count)
  for place in (0..<count).reversed() {
    cost[place] = cost[place + 1] + 1
    guard length[place] >= shortest else { continue }
    var used = length[place]
    while used >= shortest {
      let price = 3 + (used < 19 ? 0 : 1 + (used - 19) / 255) + cost[place + used]
      if price <= cost[place] { (cost[place], take[place]) = (price, used) }
      used = used > 64 ? used / 2 : used - 1
    }
  }
  var result: [UInt8] = []
  func put(rest: Int) {
    var rest = rest
    while rest >= 255 {
      result.append(255)
      rest -= 255
    }
    result.append(UInt8(rest))
  }
  var place = 0
  var literals = 0
  while true {
    while place < count, take[place] == 0 { place += 1 }
    let (run, used) = (place - literals, place < count ? take[place] : shortest)
    result.append(UInt8(min(run, 15) << 4 | min(used - shortest, 15)))
    if run >= 15 { put(rest: run - 15) }
    result += octets[literals..<place]
    guard place < count else { return result }
    result += [UInt8(distance[place] & 255), UInt8(distance[place] >> 8)]
    if used - shortest >= 15 { put(rest: used - shortest - 15) }
    place += used
    literals = place
  }
}

guard CommandLine.arguments.count == 3 else { fail("usage: pack IMAGE.elf PACKED") }
let image = Image(read(CommandLine.arguments[1]))
let packed = compress(image.octets)
guard let file = fopen(CommandLine.arguments[2], "w"),
  fwrite(packed, 1, packed.count, file) == packed.count, fclose(file) == 0
else { fail("\(CommandLine.arguments[2]) can't be written") }
print("-DBASE=\(image.base) -DENTRY=\(image.entry) -DEND=\(image.end)")
