internal import HTTPTypes
internal import NFVModel
internal import NIOCore

/// The frames of an exec stream: one octet of type, four of length (big endian), the payload.
enum ExecFrame {
  static let contentType = "application/vnd.martlet.exec"
  static let maximumPayload = 65_536
  private static let headerLength = 5

  /// What a client sends.
  enum Input: Equatable {
    case keepAlive
    case start(ExecRequest)
    case bytes([UInt8])
    case endOfInput
    case resize(ExecRequest.TerminalSize)

    init(type: UInt8, payload: [UInt8]) throws(Problem) {
      switch type {
      case 0x00: self = .keepAlive
      case 0x01: self = .start(try ExecRequest(JSONBody(payload)))
      case 0x02: self = .bytes(payload)
      case 0x03: self = .endOfInput
      case 0x04:
        guard payload.count == 4 else {
          throw Problem(.badRequest, "a resize frame has rows and columns, 16 bits each")
        }
        self = .resize(
          .init(
            rows: Int(payload[0]) << 8 | Int(payload[1]),
            columns: Int(payload[2]) << 8 | Int(payload[3])))
      default: throw Problem(.badRequest, "a frame of type \(type) is not known here")
      }
    }
  }

  /// Takes the next whole frame off the buffer; nil where it has not come in yet.
  static func next(from buffer: inout ByteBuffer) throws(Problem) -> Input? {
    let start = buffer.readerIndex
    guard let type = buffer.getInteger(at: start, as: UInt8.self),
      let length = buffer.getInteger(at: start + 1, as: UInt32.self)
    else { return nil }
    guard length <= maximumPayload else {
      throw Problem(
        .contentTooLarge, "a frame has \(length) octets; it has at most \(maximumPayload)")
    }
    guard buffer.readableBytes >= headerLength + Int(length) else { return nil }
    buffer.moveReaderIndex(forwardBy: headerLength)
    let payload = buffer.readBytes(length: Int(length)) ?? []
    buffer.discardReadBytes()
    return try Input(type: type, payload: payload)
  }

  /// Tells a client that waits for output that the daemon is there.
  static var keepAlive: ByteBuffer { encode(0x00, []) }

  /// What the daemon sends for a piece of output; large pieces are cut.
  static func encode(_ output: ExecOutput) -> ByteBuffer {
    switch output {
    case .standardOutput(let bytes): return encode(0x11, bytes)
    case .standardError(let bytes): return encode(0x12, bytes)
    case .exited(let status):
      var json = JSONWriter(capacity: 32)
      json.object {
        switch status {
        case .exited(let code): $0.field("code", code)
        case .killed(let signal): $0.field("signal", signal)
        case .outOfMemory: $0.field("outOfMemory", true)
        case .hung, .unknown: $0.field("unknown", true)
        }
      }
      return encode(0x13, json.bytes)
    }
  }

  static func encode(_ problem: Problem) -> ByteBuffer {
    var json = JSONWriter()
    problem.write(to: &json, instance: nil)
    return encode(0x14, json.bytes)
  }

  private static func encode(_ type: UInt8, _ payload: [UInt8]) -> ByteBuffer {
    var buffer = ByteBuffer()
    var rest = payload[...]
    repeat {
      let part = rest.prefix(maximumPayload)
      rest = rest.dropFirst(maximumPayload)
      buffer.writeInteger(type)
      buffer.writeInteger(UInt32(part.count))
      buffer.writeBytes(part)
    } while !rest.isEmpty
    return buffer
  }
}

extension ExecRequest {
  /// The payload of a start frame.
  init(_ body: JSONBody) throws(Problem) {
    var arguments: [String] = []
    for item in try body.required("arguments").items() { arguments.append(try item.text()) }
    guard arguments.first?.isEmpty == false else {
      throw Problem(.badRequest, "arguments is empty; its first item is the command")
    }
    var environment: [String] = []
    for item in try body.items("environment") {
      environment.append(
        try item.parsed("NAME=value", { text in text.contains("=") ? text : nil }))
    }
    var size: TerminalSize?
    if let terminal = try body.member("terminal") {
      size = .init(
        rows: try terminal.required("rows").integer(),
        columns: try terminal.required("columns").integer())
    }
    self.init(arguments: arguments, environment: environment, terminal: size)
  }
}
