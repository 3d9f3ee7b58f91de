internal import ArgumentParser
internal import NFVModel

struct WaitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "wait",
    abstract: "Wait until something has come about.",
    discussion: """
      Of an operation: until it has ended; the exit code is 0 when it completed. Of a package: \
      until it is onboarded. Of a VNF: --for ready (all its Vnfcs run and no operation is open, \
      the default), stopped, terminated or deleted.

      Examples:
        martlet wait op 3f6c --timeout 30s
        martlet wait vnf fw --for terminated
      """)

  enum Condition: String, ExpressibleByArgument, CaseIterable, Sendable {
    case ready, stopped, terminated, deleted
  }

  @Argument(help: "vnf, op or package.") var kind: Kind
  @Argument(help: "Which.") var id: String
  @Option(name: .customLong("for"), help: "What to wait for, of a VNF.")
  var condition: Condition?
  @Option(help: ArgumentHelp("How long at most: 90, 90s, 5m, 500ms.", valueName: "time"))
  var timeout = TimeLimit(duration: .seconds(300))
  @OptionGroup var connection: ConnectionOptions

  func validate() throws {
    if kind == .network { throw ValidationError("Networks are there as soon as they are made.") }
    if condition != nil, kind != .vnf { throw ValidationError("--for is for VNFs.") }
  }

  func run() async throws {
    let daemon = try connection.daemon()
    let kind = kind
    let label = "\(kind.singular) \(id)"
    let condition = condition ?? .ready
    let id: String
    do throws(Failure) {
      id = try await daemon.resolve(kind, self.id)
    } catch {
      if kind == .vnf, condition == .deleted, error.code == .notFound { return }
      throw error
    }
    try await within(timeout.duration, label) { () async throws(Failure) in
      try await Progress.show(label) { (progress) async throws(Failure) in
        switch kind {
        case .op: _ = try await daemon.awaitEnd(ofOperation: id, progress)
        case .package: _ = try await daemon.awaitOnboarding(id, progress)
        case .vnf: try await daemon.await(condition, ofVnf: id, progress)
        case .network: break
        }
      }
    }
  }
}

extension Daemon {
  fileprivate func await(
    _ condition: WaitCommand.Condition, ofVnf id: String, _ progress: Progress
  ) async throws(Failure) {
    _ = try await wait(vnfInstanceID: id) { () async throws(Failure) -> Bool? in
      let instance: JSONValue
      do throws(Failure) {
        instance = try await get(.vnf, id)
      } catch {
        if condition == .deleted, error.code == .notFound { return true }
        throw error
      }
      progress.update { $0.detail = vnfState(instance) }
      return meets(instance, condition) ? true : nil
    }
  }

  /// Waits for the end of a package's onboarding and returns the package.
  func awaitOnboarding(_ id: String, _ progress: Progress) async throws(Failure) -> JSONValue {
    try await wait { () async throws(Failure) -> JSONValue? in
      let package = try await get(.package, id)
      progress.update { $0.detail = package["onboardingState"].text }
      switch package["onboardingState"].text {
      case "ONBOARDED": return package
      case "ERROR":
        throw Failure(.refused, package["onboardingFailureDetails", "detail"].text.printable)
      default: return nil
      }
    }
  }
}

/// Whether an instance is as the condition says.
func meets(_ instance: JSONValue, _ condition: WaitCommand.Condition) -> Bool {
  let isBusy = !instance["org.martlet", "openOperation"].text.isEmpty
  let isInstantiated = instance["instantiationState"].text == "INSTANTIATED"
  let vnfState = instance["instantiatedVnfInfo", "vnfState"].text
  let vnfcs = instance["instantiatedVnfInfo", "vnfcResourceInfo"].elements
  switch condition {
  case .ready:
    return isInstantiated && !isBusy && vnfState == "STARTED"
      && vnfcs.allSatisfy { $0["metadata", "state"].text == "RUNNING" }
  case .stopped: return isInstantiated && !isBusy && vnfState == "STOPPED"
  case .terminated: return !isInstantiated && !isBusy
  case .deleted: return false
  }
}
