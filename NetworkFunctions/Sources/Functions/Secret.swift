/// A key that the network does not know, for what the network must not foresee: where a flow stands
/// in a table, which port a NAT takes, with which number a connection begins.
public struct Secret: Sendable {
  let first: UInt64
  let second: UInt64

  public init(_ first: UInt64, _ second: UInt64) {
    self.first = first
    self.second = second
  }

  public init<S: Surroundings & ~Copyable>(from surroundings: inout S) {
    first = surroundings.random()
    second = surroundings.random()
  }

  /// The hash of two words.
  @inline(never)
  public func hash(_ a: UInt64, _ b: UInt64) -> UInt64 {
    var hash = SipHash(self)
    hash.add(a)
    hash.add(b)
    return hash.finish(length: 16)
  }
}

/// SipHash-1-3 of whole words (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): who
/// does not know the key cannot find inputs whose hashes meet, even by looking at outputs.
struct SipHash {
  var v0: UInt64
  var v1: UInt64
  var v2: UInt64
  var v3: UInt64

  init(_ secret: Secret) {
    v0 = secret.first ^ 0x736f_6d65_7073_6575
    v1 = secret.second ^ 0x646f_7261_6e64_6f6d
    v2 = secret.first ^ 0x6c79_6765_6e65_7261
    v3 = secret.second ^ 0x7465_6462_7974_6573
  }

  @inline(__always)
  mutating func add(_ word: UInt64) {
    v3 ^= word
    round()
    v0 ^= word
  }

  /// - Parameter length: of all that was added, in octets.
  @inline(__always)
  consuming func finish(length: UInt64) -> UInt64 {
    add(length << 56)
    v2 ^= 0xff
    round()
    round()
    round()
    return v0 ^ v1 ^ v2 ^ v3
  }

  @inline(__always)
  mutating func round() {
    v0 &+= v1
    v1 = (v1 << 13 | v1 >> 51) ^ v0
    v0 = v0 << 32 | v0 >> 32
    v2 &+= v3
    v3 = (v3 << 16 | v3 >> 48) ^ v2
    v0 &+= v3
    v3 = (v3 << 21 | v3 >> 43) ^ v0
    v2 &+= v1
    v1 = (v1 << 17 | v1 >> 47) ^ v2
    v2 = v2 << 32 | v2 >> 32
  }
}
