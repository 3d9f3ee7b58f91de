internal import ArgumentParser
internal import Glibc
internal import NFVModel

extension UsageOrder: ExpressibleByArgument {}

struct TopCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Show what running functions use: CPU, memory, packets and bits.",
    discussion: """
      On a terminal it is refreshed in place; the keys c, m, p, b and n sort by CPU, memory, \
      packets, bits and name, q leaves. In a pipe, and with --once, two readings an interval apart \
      give one table. 100 % is one processor; packets and bits are a second's, as the function \
      receives (RX) and sends (TX) them.

      Examples:
        martlet top
        martlet top fw --interval 5s
        martlet top --once -o json
      """)

  enum Format: String, ExpressibleByArgument, CaseIterable, Sendable { case table, json }

  @Argument(help: "Only this instance.") var vnf: String?
  @Flag(help: "One table, and the end.") var once = false
  @Option(help: ArgumentHelp("The time between two readings.", valueName: "time"))
  var interval = TimeLimit(duration: .seconds(1))
  @Option(help: "What to sort by at first: cpu, memory, packets, bits or name.")
  var sort = UsageOrder.cpu
  @Option(name: [.short, .long], help: "table or json.") var output = Format.table
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if interval.duration < .milliseconds(100) {
      throw ValidationError("--interval is 100ms at least.")
    }
  }

  func run() async throws {
    let daemon = try connection.daemon()
    var target = "/martlet/v1/usage"
    if let vnf { target += "?vnfInstanceId=\(try await daemon.resolve(.vnf, vnf))" }
    let source = UsageSource(daemon: daemon, target: target, interval: interval.duration)
    let console = Console.current
    let first = try await source.read()
    if output == .table, !once, console.outputIsTerminal,
      let screen = UsageScreen(first, order: sort)
    {
      return await screen.run(source)
    }
    try? await Task.sleep(for: interval.duration)
    let rows = sort.sorted(UsageRow.rows(from: first, to: try await source.read()))
    switch output {
    case .json: console.print(JSONValue.array(rows.map(\.document)).pretty)
    case .table:
      guard !rows.isEmpty else { return console.note("Nothing runs.") }
      console.output(Array(UsageTable(rows: rows).rendered(color: console.colors).utf8))
    }
  }
}

/// Where readings come from.
struct UsageSource: Sendable {
  var daemon: Daemon
  var target: String
  var interval: Duration

  func read() async throws(Failure) -> UsageReading { UsageReading(try await daemon.get(target)) }
}

/// The terminal as `martlet top` has it until it leaves: another screen without a cursor, its keys
/// passed on.
struct UsageScreen {
  private static let enter = "\u{1B}[?1049h\u{1B}[?25l\u{1B}[2J"
  private static let leave = "\u{1B}[?25h\u{1B}[?1049l"

  private let input: StandardInput
  private var view: UsageView

  /// Nil where input cannot be read.
  init?(_ first: UsageReading, order: UsageOrder) {
    guard let input = try? StandardInput() else { return nil }
    self.input = input
    view = UsageView(first, order: order)
  }

  /// Until `q`, an interrupt, or the end of the terminal.
  consuming func run(_ source: UsageSource) async {
    let raw = RawTerminal(STDIN_FILENO)
    let console = Console.current
    console.output(Array(Self.enter.utf8))
    defer {
      console.output(Array(Self.leave.utf8))
      raw?.restore()
    }
    let input = input
    let (happenings, sink) = AsyncStream.makeStream(of: UsageView.Happening.self)
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        while (try? await Task.sleep(for: source.interval)) != nil {
          do throws(Failure) {
            sink.yield(.reading(try await source.read()))
          } catch {
            sink.yield(.failure(error))
          }
        }
      }
      group.addTask {
        // Without a terminal for keys an interrupt leaves.
        guard raw != nil else { return }
        while let keys = await input.next() { sink.yield(.keys(keys)) }
        sink.yield(.ended)
      }
      group.addTask { for await _ in windowChanges() { sink.yield(.resized) } }
      group.addTask { for await _ in endings() { sink.yield(.ended) } }
      draw(console)
      for await happening in happenings {
        guard view.take(happening) else { break }
        draw(console)
      }
      input.stop()
      group.cancelAll()
    }
  }

  private func draw(_ console: Console) {
    let size = TerminalSize.current(STDOUT_FILENO) ?? TerminalSize(rows: 24, columns: 80)
    console.output(Array(view.drawing(size: size, color: console.colors).utf8))
  }
}

/// What stands on the screen of `martlet top`, and what changes it.
struct UsageView: Sendable {
  enum Happening: Sendable {
    case reading(UsageReading)
    case failure(Failure)
    case keys([UInt8])
    case resized
    case ended
  }

  private var rows: [UsageRow]
  private var last: UsageReading
  private var order: UsageOrder
  private var notice: String?

  init(_ first: UsageReading, order: UsageOrder) {
    last = first
    self.order = order
    rows = UsageRow.rows(from: nil, to: first)
  }

  /// - Returns: whether to go on.
  mutating func take(_ happening: Happening) -> Bool {
    switch happening {
    case .reading(let reading):
      rows = UsageRow.rows(from: last, to: reading)
      last = reading
      notice = nil
    case .failure(let failure): notice = failure.message
    case .resized: break
    case .ended: return false
    case .keys(let keys):
      for key in keys {
        // ^C comes as a key from a raw terminal.
        if key == UInt8(ascii: "q") || key == 3 { return false }
        if let chosen = UsageOrder(key: Character(UnicodeScalar(key))) { order = chosen }
      }
    }
    return true
  }

  /// Writes over what stands there, line by line, so that nothing flickers.
  func drawing(size: TerminalSize, color: Bool) -> String {
    let lines = UsageTable(rows: rows).screen(
      order: order, size: size, notice: notice, color: color)
    return "\u{1B}[H" + lines.joined(separator: "\u{1B}[K\r\n") + "\u{1B}[K\u{1B}[J"
  }
}
