internal import CLinux
internal import Glibc
internal import Synchronization
public import SystemPackage

/// A netlink socket (netlink(7)). It acts in the network namespace in which it was opened, whatever
/// thread uses it; uses are serial.
public final class NetlinkSocket: Sendable {
  public enum Family: Int32, Sendable {
    /// rtnetlink(7).
    case route = 0
    /// nfnetlink: nftables.
    case netfilter = 12
  }

  let descriptor: FileDescriptor
  private let sequence = Mutex<UInt32>(0)

  /// Opens a socket in the calling thread's network namespace.
  public init(_ family: Family) throws(SystemError) {
    let descriptor = FileDescriptor(
      rawValue: try systemCall("socket", "netlink") {
        socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), family.rawValue)
      })
    // NETLINK_EXT_ACK and NETLINK_CAP_ACK: the kernel says in words what it refuses, and does not
    // send the request back.
    for option: Int32 in [11, 10] {
      var on: Int32 = 1
      _ = setsockopt(descriptor.rawValue, 270, option, &on, 4)
    }
    self.descriptor = descriptor
  }

  deinit { try? descriptor.close() }

  /// Sends requests in one system call and waits until the kernel has answered each.
  /// - Throws: the first refusal; the requests after it were carried out nevertheless.
  public func request(
    _ messages: [NetlinkMessage], subject: @autoclosure () -> String = ""
  ) throws(SystemError) {
    let errors = try exchange(messages)
    if let error = errors.first(where: { $0 != nil }) ?? nil {
      throw SystemError(
        call: "netlink", errno: error.errno,
        subject: error.text.isEmpty ? subject() : "\(subject()): \(error.text)")
    }
  }

  /// Like `request`, but gives each request's outcome.
  /// - Returns: nil where it was carried out.
  public func outcomes(_ messages: [NetlinkMessage]) throws(SystemError) -> [Errno?] {
    try exchange(messages).map { $0?.errno }
  }

  private struct Refusal {
    var errno: Errno
    var text: String
  }

  private func exchange(_ messages: [NetlinkMessage]) throws(SystemError) -> [Refusal?] {
    guard !messages.isEmpty else { return [] }
    return try sequence.withLock { sequence throws(SystemError) in
      let first = sequence &+ 1
      var bytes: [UInt8] = []
      for message in messages {
        sequence &+= 1
        // NLM_F_ACK
        bytes += message.sealed(sequence: sequence, flags: 4)
      }
      try send(bytes)
      var results = [Refusal?](repeating: nil, count: messages.count)
      var missing = messages.count
      while missing > 0 {
        for answer in try receive() where answer.type == 2 {
          let index = Int(answer.sequence &- first)
          guard results.indices.contains(index) else { continue }
          missing -= 1
          let code = Int32(bitPattern: answer.payload.integer(at: 0, as: UInt32.self))
          if code != 0 {
            // NLMSGERR_ATTR_MSG after `struct nlmsgerr`, capped.
            let text = NetlinkAttributes(answer.payload.dropFirst(20)).text(1) ?? ""
            results[index] = Refusal(errno: Errno(rawValue: -code), text: text)
          }
        }
      }
      return results
    }
  }

  /// Sends a batch of nfnetlink, whose first and last message are only its brackets.
  /// - Throws: the first refusal; then nothing of the batch was carried out.
  func requestBatch(_ messages: [NetlinkMessage]) throws(SystemError) {
    try sequence.withLock { sequence throws(SystemError) in
      let first = sequence &+ 1
      var bytes: [UInt8] = []
      for (index, message) in messages.enumerated() {
        sequence &+= 1
        // Whether the brackets are acknowledged differs from kernel to kernel: they do not ask.
        let isBracket = index == 0 || index == messages.count - 1
        bytes += message.sealed(sequence: sequence, flags: isBracket ? 0 : 4)
      }
      try send(bytes)
      var missing = messages.count - 2
      while missing > 0 {
        for answer in try receive()
        where answer.type == 2 && answer.sequence &- first < UInt32(messages.count) {
          missing -= 1
          let code = Int32(bitPattern: answer.payload.integer(at: 0, as: UInt32.self))
          if code != 0 {
            throw SystemError(call: "nfnetlink", errno: Errno(rawValue: -code), subject: "batch")
          }
        }
      }
    }
  }

  /// Asks for a list (NLM_F_DUMP).
  /// - Returns: each entry's bytes after the netlink header.
  public func dump(_ message: NetlinkMessage) throws(SystemError) -> [ArraySlice<UInt8>] {
    try answers(to: message, flags: 0x300)
  }

  /// Asks for one thing (NLM_F_ACK).
  /// - Returns: its bytes after the netlink header.
  func ask(_ message: NetlinkMessage) throws(SystemError) -> [ArraySlice<UInt8>] {
    try answers(to: message, flags: 4)
  }

  private func answers(
    to message: NetlinkMessage, flags: UInt16
  ) throws(SystemError) -> [ArraySlice<UInt8>] {
    try sequence.withLock { sequence throws(SystemError) in
      sequence &+= 1
      try send(message.sealed(sequence: sequence, flags: flags))
      var entries: [ArraySlice<UInt8>] = []
      while true {
        for answer in try receive() where answer.sequence == sequence {
          switch answer.type {
          // NLMSG_DONE
          case 3: return entries
          case 2:
            let code = Int32(bitPattern: answer.payload.integer(at: 0, as: UInt32.self))
            if code == 0 { return entries }
            throw SystemError(call: "netlink", errno: Errno(rawValue: -code), subject: "question")
          default: entries.append(answer.payload)
          }
        }
      }
    }
  }

  private func send(_ bytes: [UInt8]) throws(SystemError) {
    try systemCall("send", "netlink") { Glibc.send(descriptor.rawValue, bytes, bytes.count, 0) }
  }

  private struct Answer {
    var type: UInt16
    var sequence: UInt32
    var payload: ArraySlice<UInt8>
  }

  private func receive() throws(SystemError) -> [Answer] {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = try systemCall("recv", "netlink") {
      recv(descriptor.rawValue, &buffer, 65536, 0)
    }
    var answers: [Answer] = []
    var rest = buffer[0..<count]
    while rest.count >= 16 {
      let length = Int(rest.integer(at: 0, as: UInt32.self))
      guard length >= 16, length <= rest.count else { break }
      answers.append(
        Answer(
          type: rest.integer(at: 4, as: UInt16.self),
          sequence: rest.integer(at: 8, as: UInt32.self),
          payload: rest.prefix(length).dropFirst(16)))
      rest = rest.dropFirst((length + 3) & ~3)
    }
    return answers
  }
}
