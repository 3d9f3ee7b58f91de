/// The frames of a command inside a Vnfc: one octet type, four octets length (big endian), payload.
enum ExecFrame: Sendable, Hashable {
  case keepAlive
  /// JSON: arguments, environment, terminal.
  case start([UInt8])
  case input([UInt8])
  case endOfInput
  case resize(rows: UInt16, columns: UInt16)
  case output([UInt8])
  case errorOutput([UInt8])
  /// JSON: how the command ended.
  case exit([UInt8])
  /// A ProblemDetails: it could not be started, or was lost.
  case failed([UInt8])

  /// Octets of a payload at most.
  static let limit = 65536

  var encoded: [UInt8] {
    let (type, payload): (UInt8, [UInt8]) =
      switch self {
      case .keepAlive: (0x00, [])
      case .start(let payload): (0x01, payload)
      case .input(let payload): (0x02, payload)
      case .endOfInput: (0x03, [])
      case .resize(let rows, let columns):
        (0x04, [UInt8(rows >> 8), UInt8(rows & 0xFF), UInt8(columns >> 8), UInt8(columns & 0xFF)])
      case .output(let payload): (0x11, payload)
      case .errorOutput(let payload): (0x12, payload)
      case .exit(let payload): (0x13, payload)
      case .failed(let payload): (0x14, payload)
      }
    let length = UInt32(payload.count)
    return [type] + (0..<4).map { UInt8(truncatingIfNeeded: length >> (24 - 8 * $0)) } + payload
  }
}

/// Takes the daemon's frames out of a stream of octets, however that is cut.
struct ExecFrameParser: Sendable {
  private var waiting: [UInt8] = []

  /// The frames that the octets complete; types unknown to this version are passed over.
  /// - Throws: `failed` where a frame is longer than allowed.
  mutating func parse(_ octets: [UInt8]) throws(Failure) -> [ExecFrame] {
    waiting += octets
    var frames: [ExecFrame] = []
    var start = 0
    while waiting.count - start >= 5 {
      let length = waiting[(start + 1)..<(start + 5)].reduce(0) { $0 << 8 | Int($1) }
      guard length <= ExecFrame.limit else {
        throw Failure(.failed, "the daemon sent a frame of \(length) octets")
      }
      guard waiting.count - start >= 5 + length else { break }
      let payload = Array(waiting[(start + 5)..<(start + 5 + length)])
      switch waiting[start] {
      case 0x00: frames.append(.keepAlive)
      case 0x11: frames.append(.output(payload))
      case 0x12: frames.append(.errorOutput(payload))
      case 0x13: frames.append(.exit(payload))
      case 0x14: frames.append(.failed(payload))
      default: break
      }
      start += 5 + length
    }
    waiting.removeFirst(start)
    return frames
  }
}
