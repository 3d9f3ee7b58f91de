internal import ArgumentParser
internal import NFVClient
internal import NFVModel

struct LogsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logs",
    abstract: "Show what a Vnfc has written to its outputs.",
    discussion: """
      The workload that runs now, or the last one. With -f it goes on, and over restarts of the \
      workload, until the instance is terminated or stopped.

      Examples:
        martlet logs fw
        martlet logs -f web --vnfc workers.1
      """)

  @Argument(help: "The instance.") var vnf: String
  @Flag(name: [.short, .long], help: "Follow what comes.") var follow = false
  @OptionGroup var one: VnfcOption
  @OptionGroup var connection: ConnectionOptions

  func run() async throws {
    // A function may be silent for as long as it likes.
    let daemon = try connection.daemon(Client.Limits(silence: .seconds(365 * 86400)))
    let instance = try await daemon.find(.vnf, vnf)
    let vnf = instance["id"].text
    let found = try one.find(of: instance)
    var log = LogReader(
      daemon: daemon, vnf: vnf, vnfc: found.id, incarnation: found.incarnation)
    if follow { try await log.follow() } else { try await log.read() }
  }
}

/// Reads one Vnfc's log from the beginning.
private struct LogReader {
  let daemon: Daemon
  let vnf: String
  let vnfc: String
  var incarnation: Int64
  var offset: Int64 = 0

  private static let limit: Int64 = 1 << 20

  /// All there is now.
  mutating func read() async throws(Failure) {
    while try await piece(follow: false) >= Self.limit {}
  }

  /// Until the Vnfc is gone or stopped.
  mutating func follow() async throws(Failure) {
    while true {
      do throws(Failure) {
        _ = try await piece(follow: true)
      } catch {
        // A restarted daemon goes on telling where this one broke off.
        guard error.code == .unreachable else { throw error }
      }
      guard let now = try await current() else { return }
      if now != incarnation {
        incarnation = now
        offset = 0
        Console.current.note("martlet: the workload was started again (start \(now))")
      }
    }
  }

  /// The incarnation once it may have something new, nil when none will come.
  private func current() async throws(Failure) -> Int64? {
    let start = ContinuousClock.now
    var pause = Duration.milliseconds(20)
    while true {
      do throws(Failure) {
        let instance = try await daemon.get(.vnf, vnf)
        let info = instance["instantiatedVnfInfo"]
        let found = info["vnfcResourceInfo"].elements.first { $0["id"].text == vnfc }
        guard let found, found["metadata", "state"].text != "STOPPED" else { return nil }
        let now = found["metadata", "incarnation"].integer ?? 0
        if now != incarnation || found["metadata", "state"].text == "RUNNING" { return now }
      } catch {
        if error.code == .notFound { return nil }
        guard error.code == .unreachable, ContinuousClock.now - start < .seconds(60) else {
          throw error
        }
      }
      do { try await Task.sleep(for: pause) } catch { throw Failure(.failed, "interrupted") }
      pause = min(pause * 2, .milliseconds(500))
    }
  }

  /// Writes one answer out; returns how many octets it had.
  private mutating func piece(follow: Bool) async throws(Failure) -> Int64 {
    let query =
      follow
      ? "offset=\(offset)&follow=true&incarnation=\(incarnation)"
      : "offset=\(offset)&limit=\(Self.limit)"
    do throws(ClientError) {
      let stream = try await daemon.client.stream(
        HTTPRequest(.get, Daemon.path(vnf, vnfc, "log") + "?" + query))
      let begin = stream.head.headers["Martlet-Log-Offset"].flatMap { Int64($0) } ?? offset
      if begin > offset {
        Console.current.note(
          "martlet: \(octets(begin - offset)) of older output have been dropped")
      }
      offset = begin
      for try await octets in stream.body {
        Console.current.output(octets)
        offset += Int64(octets.count)
      }
      return offset - begin
    } catch {
      throw Failure(error)
    }
  }
}
