internal import Glibc
internal import LinuxSystem
internal import SystemPackage

extension ClientNamespace {
  /// The median round trip of UDP datagrams of 18 octets, one after another, in microseconds. Blocks
  /// as long.
  /// - Parameter echo: the client that answers on that port meanwhile; nil where whoever has `address`
  ///   does so itself.
  /// - Throws: also where more than a tenth is lost.
  public func roundTrip(
    to address: [UInt8], port: UInt16, count: Int, echoedBy echo: ClientNamespace? = nil
  ) throws -> Double {
    let server = try echo.map { try EchoServer(in: $0.namespace, port: port) }
    defer { server?.end() }
    let socket = try namespace.run { () throws(SystemError) in
      try DatagramSocket(connect: address, port: port)
    }
    defer { socket.close() }
    // Neighbours, flows and their tables are known before anything is counted.
    for number in 0..<100 { _ = try socket.exchange(UInt64(number), milliseconds: 100) }
    var times: [Double] = []
    for number in 0..<count {
      if let time = try socket.exchange(UInt64(1000 + number), milliseconds: 200) {
        times.append(time.milliseconds * 1000)
      } else if number - times.count > count / 10 {
        break
      }
    }
    guard times.count >= count - count / 10 else {
      throw TrafficError(
        program: "the exchange of datagrams", output: "\(times.count) of \(count) came back")
    }
    return Distribution(times).p50
  }
}

extension DatagramSocket {
  /// Sends a number and waits for it to come back; answers to earlier ones are passed over.
  /// - Returns: how long it took; nil where it did not come in time.
  fileprivate func exchange(
    _ number: UInt64, milliseconds: Int32
  ) throws(SystemError) -> Duration? {
    let payload = withUnsafeBytes(of: number) { Array($0) } + [UInt8](repeating: 0, count: 10)
    let start = ContinuousClock.now
    send(payload)
    while try waitReadable(descriptor, milliseconds: milliseconds) {
      var answer = [UInt8](repeating: 0, count: 64)
      // An ICMP error for an earlier one is no answer.
      let length = recv(descriptor.rawValue, &answer, answer.count, Int32(MSG_DONTWAIT))
      let time = ContinuousClock.now - start
      if length == payload.count, Array(answer[..<length]) == payload { return time }
      if time > .milliseconds(Int64(milliseconds)) { break }
    }
    return nil
  }
}

/// Sends every datagram back to where it came from, on a thread of its own.
private struct EchoServer {
  private let stop: FileDescriptor
  private let ended: FileDescriptor

  init(in namespace: NetworkNamespace, port: UInt16) throws(SystemError) {
    let (stopping, stop) = try makePipe()
    let (ended, ending) = try makePipe()
    let socket = try namespace.run { () throws(SystemError) in
      try DatagramSocket(bind: [0, 0, 0, 0], port: port)
    }
    self.stop = stop
    self.ended = ended
    startThread(name: "martlet-echo") {
      while let ready = try? waitReadable(
        anyOf: [socket.descriptor, stopping], milliseconds: -1), !ready[1]
      {
        socket.sendBack()
      }
      socket.close()
      for descriptor in [stopping, ending] { try? descriptor.close() }
    }
  }

  /// Returns when its port is free again.
  func end() {
    try? stop.close()
    _ = try? readSome(of: ended, limit: 1)
    try? ended.close()
  }
}

extension DatagramSocket {
  fileprivate func sendBack() {
    var payload = [UInt8](repeating: 0, count: 2048)
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    // SAFETY: a sockaddr_in may be used as a sockaddr (ip(7)); the kernel writes and reads no more of
    // it than `size`, during the calls.
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { peer in
        let length = recvfrom(
          descriptor.rawValue, &payload, payload.count, Int32(MSG_DONTWAIT), peer, &size)
        guard length >= 0 else { return }
        _ = sendto(descriptor.rawValue, payload, length, 0, peer, size)
      }
    }
  }
}
