internal import ArgumentParser
internal import FoundationEssentials
internal import Glibc

struct DemoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Show it all on this machine: functions, packets, kills, measurements.",
    discussion: """
      Runs a daemon of its own on a private socket and state folder, onboards the example packages \
      `firewall`, `nat44` and `responder`, and runs the first and the last as containers, unikernels \
      and tiny virtual machines: sends real traffic, kills a function and the daemon, measures what \
      draft-natarajan-nfvrg-containers-for-nfv measures. Then it chains the three, each in another \
      form, in every assignment, and removes everything again, also what an earlier one left that was \
      killed. Needs root and takes less than two minutes. In the source tree: make demo
      """)

  @Option(help: "The folder with the example packages.", completion: .directory)
  var examples = "examples"

  @Option(help: "The report to write (JSON).") var report = "build/demo-report.json"

  @Option(help: "The portability table to write (JSON).")
  var portability = "build/portability.json"

  func run() async throws {
    guard geteuid() == 0 else {
      throw Failure(
        .forbidden, "the demo makes namespaces and containers, which needs root",
        advice: "run it with sudo, or look around without root: martletd --host simulated")
    }
    var demo = try Demo(examples: examples)
    try await demo.runAndCleanUp { (demo: inout Demo) in
      do {
        try await demo.run()
      } catch {
        if !Task.isCancelled { demo.say("something failed; cleaning up") }
        throw error
      }
    }
    let leftovers = demo.leftovers()
    demo.tell(leftovers.isEmpty ? "nothing is left behind" : "left behind: \(leftovers)")
    try demo.write(report: report, portability: portability, leftovers: leftovers)
    guard leftovers.isEmpty else {
      throw Failure(.failed, "the demo left something behind: \(leftovers.joined(separator: ", "))")
    }
    demo.say("done in \(demo.elapsed) s; the report is in \(report)")
  }
}
