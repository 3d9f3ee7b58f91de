import FoundationEssentials
import LinuxSystem
import NFVModel

/// What an image of a machine says of itself: `machine.json` beside its `kernel` and, of a tinyx, its
/// `initramfs`.
struct MachineImage: Sendable, Hashable {
  enum Board: String, Sendable, Hashable, CaseIterable {
    case pc, q35, microvm
  }

  /// `tinyx` or `unikernel`.
  var technology: Technology
  var board: Board
  var commandLine: String
  var minimumMemoryMiB: Int
  var entrypoint: [String]
  var environment: [String]
  var workingDirectory: String
  /// Whether its guest serves the control channel and says there when its function runs. One that
  /// does not counts as running from its first instruction on.
  var isControlled: Bool
  let kernelPath: String
  /// nil: it needs none.
  let initramfsPath: String?

  /// Reads an unpacked image.
  /// - Throws: `unprocessable` where it is none, or not for us.
  init(_ image: PreparedImage) throws(NFVError) {
    func refuse(_ why: String, _ cause: String? = nil) -> NFVError {
      NFVError(
        .unprocessable, "the image \(image.digest) is no machine's image: \(why)", cause: cause)
    }
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try readFile(image.root + "/machine.json", limit: 65536)
    } catch {
      throw refuse(
        "it has no machine.json; build it by martlet image build --form tinyx, or martlet function "
          + "build", "\(error)")
    }
    guard
      case .object(let members)? = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes))
    else { throw refuse("its machine.json is no JSON object") }
    func text(_ name: String) throws(NFVError) -> String {
      guard case .string(let value)? = members[name] else {
        throw refuse("\(name) is missing in its machine.json, or is no text")
      }
      return value
    }
    func texts(_ name: String) throws(NFVError) -> [String] {
      guard case .array(let values)? = members[name] else {
        throw refuse("\(name) is missing in its machine.json, or is no list")
      }
      return values.compactMap { if case .string(let value) = $0 { value } else { nil } }
    }
    guard try text("format") == "martlet-machine", members["version"] == .integer(1) else {
      throw refuse("its format is not version 1 of martlet-machine")
    }
    let technology = try text("technology")
    guard let technology = Technology(rawValue: technology),
      technology == .tinyx || technology == .unikernel
    else { throw refuse("its technology \(technology) is neither tinyx nor unikernel") }
    let architecture = try text("architecture")
    guard architecture == Self.hostArchitecture else {
      throw refuse("it is for \(architecture), this host is \(Self.hostArchitecture)")
    }
    let machine = try text("machine")
    guard let board = Board(rawValue: machine) else {
      throw refuse(
        "its machine \(machine) is none of "
          + Board.allCases.map(\.rawValue).joined(separator: ", "))
    }
    guard case .integer(let memory)? = members["minimumMemoryMiB"], memory > 0, memory < 1 << 20
    else {
      throw refuse("minimumMemoryMiB is missing in its machine.json, or is no number above 0")
    }
    self.technology = technology
    self.board = board
    commandLine = try text("commandLine")
    minimumMemoryMiB = Int(memory)
    entrypoint = try texts("entrypoint")
    environment = try texts("environment")
    workingDirectory = try text("workingDirectory")
    isControlled = members["control"] != .bool(false)
    kernelPath = image.root + "/kernel"
    guard fileExists(kernelPath) else { throw refuse("it has no kernel") }
    let initramfs = image.root + "/initramfs"
    initramfsPath = fileExists(initramfs) ? initramfs : nil
    guard initramfsPath != nil || !isControlled || technology == .unikernel else {
      throw refuse("it has no initramfs")
    }
  }

  #if arch(x86_64)
    private static let hostArchitecture = "x86_64"
  #else
    private static let hostArchitecture = "aarch64"
  #endif
}
