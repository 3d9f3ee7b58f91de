// Packs a machine's image: `pack IMAGE.elf PACKED`. Writes the octets of all its segments, one after
// another as they lie in memory, as one stream that unpack.S reads, and prints where they go as
// definitions for it.
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

/// Calls and jumps name places in the image instead of distances, the highest octet first: those to
/// the same place look the same, and most to others begin alike. unpack.S turns them back.
func nameTargets(_ octets: inout [UInt8]) {
  var place = 0
  while place + 5 <= octets.count {
    guard octets[place] & 0xfe == 0xe8 else {
      place += 1
      continue
    }
    var distance: UInt32 = 0
    for index in (1...4).reversed() { distance = distance << 8 | UInt32(octets[place + index]) }
    let target = distance &+ UInt32(place)
    for index in 1...4 {
      octets[place + index] = UInt8(truncatingIfNeeded: target >> UInt32(32 - 8 * index))
    }
    place += 5
  }
}

/// Bits, the first one the highest of its octet, and whole octets between: an octet of bits stands
/// where its first bit was needed.
struct Stream {
  private(set) var octets: [UInt8] = []
  private var bits = 0
  private var left = 0

  mutating func put(_ bit: Bool) {
    if left == 0 {
      bits = octets.count
      octets.append(0)
      left = 8
    }
    left -= 1
    if bit { octets[bits] |= 1 << UInt8(left) }
  }

  mutating func put(octet: UInt8) { octets.append(octet) }

  /// A number from 1 on: each bit after its first one behind a 0, and then a 1.
  /// - Parameter isBegun: the first of these bits stands elsewhere.
  mutating func put(number: Int, isBegun: Bool = false) {
    var isBegun = isBegun
    for index in (0..<Self.width(number) - 1).reversed() {
      if !isBegun { put(false) }
      isBegun = false
      put(number >> index & 1 == 1)
    }
    if !isBegun { put(true) }
  }

  private static func width(_ number: Int) -> Int { Int.bitWidth - number.leadingZeroBitCount }

  /// How many bits a number takes.
  static func cost(_ number: Int) -> Int { 2 * width(number) - 1 }
}

/// What stands at a place: octets, or those that stood so far back.
enum Part {
  case literals(Int)
  case match(distance: Int, count: Int)
  /// As far back as the match before.
  case again(count: Int)
}

/// Parts by their shortest forms, of which the cheapest are looked for: octets follow a match, and
/// after octets a bit tells whether the match is as far back as the one before; after a match one
/// tells whether octets or another match follow.
func parts(of octets: [UInt8]) -> [Part] {
  struct Arrival {
    var cost = Int.max
    var distance = 0
    var from = 0
    var part = Part.literals(0)
  }
  let count = octets.count
  // By place; after literals and after a match. It begins as if after a match.
  var arrivals = [[Arrival]](
    repeating: [Arrival](repeating: Arrival(), count: count + 1), count: 2)
  arrivals[1][0].cost = 0
  var chains: [(latest: [UInt32: Int], earlier: [Int], tries: Int)] = [
    ([:], [Int](repeating: -1, count: count), 32), ([:], [Int](repeating: -1, count: count), 128),
  ]
  func same(_ place: Int, _ earlier: Int) -> Int {
    var same = 0
    while place + same < count, octets[earlier + same] == octets[place + same] { same += 1 }
    return same
  }
  func arrive(
    _ place: Int, _ kind: Int, _ cost: Int, _ distance: Int, from: Int, _ part: Part
  ) {
    guard cost < arrivals[kind][place].cost else { return }
    arrivals[kind][place] = Arrival(cost: cost, distance: distance, from: from, part: part)
  }
  for place in 0..<count {
    let (literal, match) = (arrivals[0][place], arrivals[1][place])
    if match.cost < .max {
      for run in 1...min(256, count - place) {
        arrive(
          place + run, 0, match.cost + 1 + Stream.cost(run) + 8 * run, match.distance, from: place,
          .literals(run))
      }
    }
    if literal.cost < .max, literal.distance > 0, literal.distance <= place {
      let longest = same(place, place - literal.distance)
      for run in stride(from: 1, through: longest, by: 1) {
        arrive(
          place + run, 1, literal.cost + 1 + Stream.cost(run), literal.distance, from: place,
          .again(count: run))
      }
    }
    let cost = min(literal.cost, match.cost)
    guard cost < .max else { continue }
    var longest = 1
    // Short ones are worth it nearby only, and long ones are rare.
    for index in chains.indices {
      let width = 2 + 2 * index
      guard place + width <= count else { continue }
      let key = (0..<width).reduce(UInt32(0)) { $0 << 8 | UInt32(octets[place + $1]) }
      var candidate = chains[index].latest[key] ?? -1
      chains[index].earlier[place] = candidate
      chains[index].latest[key] = place
      var tries = chains[index].tries
      while candidate >= 0, tries > 0 {
        let found = same(place, candidate)
        if found > longest {
          let distance = place - candidate
          let price = cost + 1 + Stream.cost((distance - 1) >> 7 + 1) + 7
          for run in longest + 1...found {
            arrive(
              place + run, 1, price + Stream.cost(run - 1), distance, from: place,
              .match(distance: distance, count: run))
          }
          longest = found
        }
        candidate = chains[index].earlier[candidate]
        tries -= 1
      }
    }
  }
  var parts: [Part] = []
  var place = count
  var kind = arrivals[0][count].cost < arrivals[1][count].cost ? 0 : 1
  while place > 0 {
    let arrival = arrivals[kind][place]
    parts.append(arrival.part)
    place = arrival.from
    switch arrival.part {
    case .literals: kind = 1
    case .again: kind = 0
    case .match: kind = arrivals[0][place].cost <= arrivals[1][place].cost ? 0 : 1
    }
  }
  return parts.reversed()
}

func compress(_ octets: [UInt8]) -> [UInt8] {
  var stream = Stream()
  var place = 0
  for part in parts(of: octets) {
    switch part {
    case .literals(let count):
      // What begins is literals.
      if place > 0 { stream.put(false) }
      stream.put(number: count)
      for octet in octets[place..<place + count] { stream.put(octet: octet) }
      place += count
    case .again(let count):
      stream.put(false)
      stream.put(number: count)
      place += count
    case .match(let distance, let count):
      stream.put(true)
      stream.put(number: (distance - 1) >> 7 + 1)
      // The lowest bit is the first one of the length.
      stream.put(octet: UInt8((distance - 1) & 127) << 1 | (count == 2 ? 1 : 0))
      stream.put(number: count - 1, isBegun: true)
      place += count
    }
  }
  return stream.octets
}

guard CommandLine.arguments.count == 3 else { fail("usage: pack IMAGE.elf PACKED") }
var image = Image(read(CommandLine.arguments[1]))
nameTargets(&image.octets)
let packed = compress(image.octets)
guard let file = fopen(CommandLine.arguments[2], "w"),
  fwrite(packed, 1, packed.count, file) == packed.count, fclose(file) == 0
else { fail("\(CommandLine.arguments[2]) can't be written") }
print(
  "-DBASE=\(image.base) -DCOUNT=\(image.octets.count) -DENTRY=\(image.entry) -DEND=\(image.end)")
