internal import LinuxSystem

extension ClientNamespace {
  /// The median round trip of SYNs to a port that nobody serves, one after another, in microseconds.
  ///
  /// As in a ping flood, a kernel answers, and an answer counts when it has come to the interface of who
  /// asks: nobody has to be woken but what stands between them. TCP, unlike pings, goes through every
  /// function. Blocks as long.
  /// - Parameters:
  ///   - source: this client's address.
  ///   - gateway: who passes them on, where that is not who has `address`.
  /// - Throws: also where more than a tenth is lost.
  public func roundTrip(
    from source: [UInt8], to address: [UInt8], through gateway: [UInt8]? = nil, port: UInt16,
    count: Int
  ) throws -> Double {
    let times = try namespace.run { () throws(SystemError) -> [Double] in
      let socket = try LinkSocket(interface: Self.interface)
      let own = try NetlinkSocket(.route).links().first { $0.name == Self.interface }?.mac ?? []
      guard let neighbour = try SynProbe.mac(of: gateway ?? address, on: socket, own, source) else {
        return []
      }
      _ = try socket.arrival()
      var (times, lost): ([Double], Int) = ([], 0)
      // Neighbours, flows and their tables are known before anything is counted.
      for number in 1...100 + count {
        let sequence = UInt32(number)
        let frame = SynProbe.syn(own, neighbour, source, address, port: port, sequence: sequence)
        let start = LinkSocket.now
        try socket.send(frame)
        var isAnswered = false
        while !isAnswered {
          let left = start + .milliseconds(200) - LinkSocket.now
          guard left > .zero, let answer = try socket.receive(timeout: left) else { break }
          isAnswered = SynProbe.isReset(answer, from: address, of: sequence)
        }
        if !isAnswered {
          lost += 1
        } else if number > 100 {
          times.append((try socket.arrival() - start).milliseconds * 1000)
        }
        guard lost <= max(10, count / 10) else { break }
      }
      return times
    }
    guard times.count >= count - count / 10 else {
      throw TrafficError(
        program: "the exchange of SYNs", output: "\(times.count) of \(count) were answered")
    }
    return Distribution(times).p50
  }
}
