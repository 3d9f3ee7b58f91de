internal import NFVBenchmark
internal import NFVModel

/// How long a form's traffic is measured.
struct FormEffort: Sendable {
  var trafficRounds: Int
  /// Of each throughput.
  var trafficSeconds: Int
  var pings = 5000
  /// For the instantiations, and for the traffic; nil is as long as it takes.
  var limits: (instantiations: Duration, traffic: Duration)?
}

extension Functions {
  /// Measures the draft's five quantities of a form.
  /// - Parameters:
  ///   - name: an instance in this form that runs at `address`, for traffic and memory.
  ///   - probes: an address for each instantiation that is measured.
  ///   - step: is told what is done, after each, and how many of it are left out.
  func figures(
    of form: Form, _ package: String, running name: String, at address: [UInt8],
    from vantage: Vantage, probes: [[UInt8]], _ effort: FormEffort, imageBytes: Int64,
    step: (FormStep, _ leftOut: Int) -> Void = { _, _ in }
  ) async throws -> FormFigures {
    var times: [InstantiationTimes] = []
    var rounds = Rounds(probes.count, within: effort.limits?.instantiations)
    while rounds.goesOn {
      let start = ContinuousClock.now
      times.append(
        try await instantiationTimes(of: package, form, at: probes[times.count], from: vantage))
      rounds.add(.now - start)
      step(.instantiation, rounds.goesOn ? 0 : rounds.left)
    }
    let text = address.map(String.init).joined(separator: ".")
    var rates: (tx: [Double], rx: [Double], roundTrip: [Double]) = ([], [], [])
    rounds = Rounds(effort.trafficRounds, within: effort.limits?.traffic)
    while rounds.goesOn {
      let start = ContinuousClock.now
      try Task.checkCancellation()
      rates.rx.append(
        try vantage.client.throughput(to: text, seconds: effort.trafficSeconds, reversed: false))
      try Task.checkCancellation()
      rates.tx.append(
        try vantage.client.throughput(to: text, seconds: effort.trafficSeconds, reversed: true))
      rates.roundTrip.append(try vantage.client.roundTrip(to: text, count: effort.pings))
      rounds.add(.now - start)
      step(.traffic, rounds.goesOn ? 0 : rounds.left)
    }
    return FormFigures(
      form: form, accelerator: try await accelerator(name),
      rst: Distribution(times.map(\.rst)), running: Distribution(times.map(\.running)),
      ready: Distribution(times.map(\.ready)), tx: Distribution(rates.tx),
      rx: Distribution(rates.rx), roundTrip: Distribution(rates.roundTrip),
      imageBytes: imageBytes, memoryBytes: try await memoryBytes(name))
  }
}

/// What takes time when a form is measured.
enum FormStep: Sendable {
  case instantiation, traffic
}

extension FormFigures {
  /// As in the demo's report: medians.
  var json: [String: JSONValue] {
    [
      "name": .string(form.flavour), "accelerator": .string(accelerator),
      "instantiateRstMs": .number(rst.p50), "instantiateRunningMs": .number(running.p50),
      "instantiateReadyMs": .number(ready.p50), "txGbps": .number(tx.p50),
      "rxGbps": .number(rx.p50), "rttUs": .number(roundTrip.p50),
      "imageBytes": .integer(imageBytes), "memoryBytes": .integer(memoryBytes),
    ]
  }
}
