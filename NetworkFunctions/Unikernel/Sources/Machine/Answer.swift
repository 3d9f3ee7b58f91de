extension Machine {
  /// Reads one question from the console, sends the answer, and ends the machine. Both have their
  /// length in front: four octets, the lowest first.
  ///
  /// - Parameter start: as ``run(_:start:)``'s.
  public static func answer(start: UInt64, _ body: ([UInt8]) -> [UInt8]) -> Never {
    var control = controlPort(of: findDevices(start))
    var header: [UInt8] = []
    var question: [UInt8] = []
    while header.count < 4 || question.count < length(of: header) {
      control.receive { octet in
        guard header.count == 4 else { return header.append(octet) }
        if question.isEmpty { question.reserveCapacity(length(of: header)) }
        question.append(octet)
      }
    }
    let answer = body(question)
    var rest = (0..<4).map { UInt8(truncatingIfNeeded: answer.count >> (8 * $0)) }
    var sent = 0
    while !rest.isEmpty || sent < answer.count {
      if rest.isEmpty {
        let end = min(sent + ControlPort.size, answer.count)
        rest = Array(answer[sent..<end])
        sent = end
      }
      control.send(&rest)
    }
    while control.isSending { control.send(&rest) }
    halt("answered", isFailure: false)
  }

  private static func length(of header: [UInt8]) -> Int {
    header.reversed().reduce(0) { $0 << 8 | Int($1) }
  }
}
