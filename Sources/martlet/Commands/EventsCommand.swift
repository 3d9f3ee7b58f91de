internal import ArgumentParser
internal import NFVClient
internal import NFVModel

struct EventsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "events",
    abstract: "Show what has happened, or follow what happens.",
    discussion: """
      Each event has a sequence number. With -f it goes on until interrupted, and over restarts \
      of the daemon; without --since it then begins with what comes next.

      Examples:
        martlet events
        martlet events -f --vnf fw
        martlet events -f --since 1041 -o json
      """)

  @Flag(name: [.short, .long], help: "Follow what comes.") var follow = false
  @Option(help: ArgumentHelp("Only events after this one.", valueName: "sequence"))
  var since: Int?
  @Option(help: "Only events of this instance.") var vnf: String?
  @Option(name: [.short, .long], help: "table (one line each), json or yaml.")
  var output = OutputOptions.Format.table
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if output == .name { throw ValidationError("Events have no names: use table, json or yaml.") }
  }

  func run() async throws {
    let daemon = try connection.daemon()
    var instance: String?
    if let vnf { instance = try await daemon.resolve(.vnf, vnf) }
    let start = since.map(String.init) ?? (follow ? nil : "0")
    do throws(ClientError) {
      for try await event in daemon.client.events(
        since: start, vnfInstanceID: instance, follow: follow)
      {
        guard !event.data.isEmpty else { continue }
        guard let value = try? JSONValue(parsing: Array(event.data.utf8)) else {
          throw .invalid(what: "GET events", reason: "an event is not JSON")
        }
        switch output {
        case .json: Console.current.print(value.compact)
        case .yaml: Console.current.print("---\n" + value.yaml)
        case .table, .wide, .name: Console.current.print(eventLine(value))
        }
      }
    } catch {
      throw Failure(error)
    }
  }
}

/// One event on one line.
func eventLine(_ event: JSONValue) -> String {
  let type = event["notificationType"].text
  let short = type.hasSuffix("Notification") ? String(type.dropLast(12)) : type
  var words = [
    event["timeStamp"].text, event["sequence"].text.padded(to: 6, alignedRight: true), short,
  ]
  for key in ["operation", "operationState"] { words.append(event[key].text) }
  for (key, label) in [
    ("vnfInstanceId", "vnf"), ("vnfcId", "vnfc"), ("vnfLcmOpOccId", "op"),
    ("vnfPkgId", "package"),
  ] where !event[key].text.isEmpty {
    words.append("\(label)=\(shortened(event[key].text))")
  }
  words.append(event["message"].text)
  return words.filter { !$0.isEmpty }.joined(separator: "  ").printable
}
