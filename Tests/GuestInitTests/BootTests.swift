import ControlProtocol
import LinuxSystem
import NFVImages
import NFVModel
import TestSupport
import Testing

/// A built image under QEMU, without any driver.
@Suite(.serialized, .needs(.qemu, .kernel))
struct BootTests {
  @Test(.timeLimit(.minutes(2)))
  func aFunctionRunsIsServedAndEndsWithTheMachine() throws {
    var recipe = ImageRecipe(name: "boot")
    recipe.programs = ["sh", "cat", "sleep"]
    recipe.entrypoint = [
      "/bin/sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done",
    ]
    recipe.modules = ["nf_tables"]
    let guest = try RunningGuest(recipe)
    defer { guest.end() }

    guard case .running(let pid) = try guest.hello() else {
      Issue.record("the function does not run: \(guest.console)")
      return
    }
    #expect(pid > 1)

    // What a command says, on which stream, and how it ends.
    let script = """
      read x < /etc/given; echo $x; echo $(cat /sys/class/net/left/address) >&2
      cat /run/martlet/config.json /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/hostname
      cat; exit 3
      """
    let session = try guest.execute(["sh", "-c", script])
    #expect(try guest.request(.input(session: session, Array("in".utf8), isLast: false)) == .done)
    #expect(try guest.request(.input(session: session, [10], isLast: true)) == .done)
    let result = try guest.result(of: session)
    #expect(result.output == "file\n{}1\nguest\nin\n")
    #expect(result.error == "52:54:00:00:00:01\n")
    #expect(result.exit == .exited(code: 3))
    #expect(guest.console.contains("up"))

    // A terminal has a size that changes, and hangs up.
    let terminal = try guest.execute(
      ["sh", "-c", "cat; echo over"], terminal: .init(rows: 24, columns: 80))
    #expect(
      try guest.request(.resize(session: terminal, .init(rows: 9, columns: 9))) == .done)
    #expect(
      try guest.request(.input(session: terminal, Array("echo\n".utf8), isLast: true)) == .done)
    let typed = try guest.result(of: terminal)
    #expect(typed.output == "echo\r\necho\r\nover\r\n")
    #expect(typed.exit == .exited(code: 0))

    // More output than the window comes as it is acknowledged.
    let flood = try guest.execute(["sh", "-c", "cat /init"])
    #expect(try guest.result(of: flood).octets > 4 * ControlProtocol.outputWindow)

    let asleep = try guest.execute(["sleep", "1000"])
    #expect(try guest.request(.signal(session: asleep, number: 9)) == .done)
    #expect(try guest.result(of: asleep).exit == .killed(signal: 9))

    // As a shell says it.
    for (command, code, words) in [
      ("nothing", 127, "there is no program nothing\n"),
      ("/bin/nothing", 127, "/bin/nothing cannot be started: "),
      ("/etc/given", 126, "/etc/given cannot be started: "),
    ] as [(String, UInt8, String)] {
      let result = try guest.result(of: try guest.execute([command]))
      #expect(result.exit == .exited(code: code) && result.error.hasPrefix(words), "\(result)")
    }
    let missing = try guest.execute(["nothing"], terminal: .init(rows: 24, columns: 80))
    #expect(try guest.result(of: missing).output == "there is no program nothing\r\n")
    guard case .counters(let counters) = try guest.request(.counters) else {
      Issue.record("there are no counters")
      return
    }
    #expect(counters.memoryTotal > counters.memoryAvailable && counters.memoryAvailable > 0)
    #expect(counters.uptimeMilliseconds > 0 && counters.processorMilliseconds > 0)

    #expect(try guest.request(.configure(document: Array("{\"generation\":2}".utf8))) == .done)
    let document = try guest.execute(["cat", "/run/martlet/config.json"])
    #expect(try guest.result(of: document).output == "{\"generation\":2}")

    // Another connection takes over, from wherever the last one was.
    try guest.send([9, 9, 9])
    try guest.connect()
    guard case .running = try guest.hello() else {
      Issue.record("a second connection is not served: \(guest.console)")
      return
    }

    #expect(try guest.request(.stop) == .done)
    #expect(try guest.nextState() == .ended(.exited(code: 7)))
    #expect(try guest.waitForEnd() == .exited(code: 8 << 1 | 1))
  }

  /// The machine goes off as soon as its function has ended: nobody is there to be told.
  @Test(.timeLimit(.minutes(2)), arguments: [3, 130] as [UInt8])
  func anEndThatNobodyHearsIsTheMachines(_ code: UInt8) throws {
    var recipe = ImageRecipe(name: "boot")
    recipe.programs = ["sh"]
    recipe.entrypoint = ["/bin/sh", "-c", "echo up; exit \(code)"]
    let guest = try RunningGuest(recipe, connects: false)
    defer { guest.end() }
    let limit = monotonicMilliseconds() + 60_000
    while !guest.console.contains("up"), monotonicMilliseconds() < limit {
      sleepThread(milliseconds: 5)
    }
    let up = monotonicMilliseconds()
    defer { #expect(monotonicMilliseconds() - up < 5000) }
    guard case .exited(let status) = try guest.waitForEnd() else {
      Issue.record("QEMU was killed: \(guest.console)")
      return
    }
    let end = DebugExit(.exited(code: code))
    #expect(DebugExit(status: status) == end)
    let said = DebugExit.exit(in: guest.console)
    #expect(said == (end == .otherwise ? .exited(code: code) : nil), "\(guest.console)")
  }

  @Test(.timeLimit(.minutes(1)))
  func aFunctionThatIsNotThereIsTold() throws {
    var recipe = ImageRecipe(name: "boot")
    recipe.entrypoint = ["/bin/nothing"]
    let guest = try RunningGuest(recipe)
    defer { guest.end() }
    let state = try guest.hello()
    guard case .failed(let why) = state else {
      Issue.record("\(state)")
      return
    }
    #expect(why.contains("/bin/nothing cannot be started"), "\(why)")
    #expect(try guest.waitForEnd() == .exited(code: 0))
  }
}
