internal import NFVModel

/// `machine.json`, the first entry of a virtual machine's image: what the machine is and what it
/// starts.
struct MachineConfiguration: Codable, Hashable, Sendable {
  static let fileName = "machine.json"
  static let format = "martlet-machine"
  static let version = 1
  static let machines: Set<String> = ["pc", "q35", "microvm"]

  var format = Self.format
  var version = Self.version
  var technology: Technology
  /// As the kernel names it, such as `x86_64`.
  var architecture = Self.hostArchitecture
  /// QEMU's machine that the kernel finds its devices on.
  var machine: String
  var commandLine: String
  var minimumMemoryMiB: Int
  /// Of a tinyx; a unikernel is what it starts.
  var entrypoint: [String]
  var environment: [String]
  var workingDirectory: String
  /// False where its guest serves no control channel, and counts as running from its first
  /// instruction on.
  var control: Bool?

  static var hostArchitecture: String {
    #if arch(x86_64)
      "x86_64"
    #else
      "aarch64"
    #endif
  }

  /// Whether a kernel of the technology unpacks an initramfs.
  static func hasInitramfs(_ technology: Technology) -> Bool { technology == .tinyx }

  /// - Parameter source: what errors call the image.
  func check(_ source: String) throws(NFVError) {
    var problem: String?
    if format != Self.format || version != Self.version {
      problem =
        "its format is \(format.prefix(40)) \(version), this version takes \(Self.format) "
        + "\(Self.version); build it again"
    } else if technology != .tinyx, technology != .unikernel {
      problem = "its technology is \(technology.rawValue); a machine's is tinyx or unikernel"
    } else if architecture != Self.hostArchitecture {
      problem =
        "it is for \(architecture.prefix(40)), this host is \(Self.hostArchitecture); build it for "
        + "this architecture"
    } else if !Self.machines.contains(machine) {
      problem =
        "its machine \(machine.prefix(40)) is none of "
        + Self.machines.sorted().joined(separator: ", ")
    } else if !(1...1 << 20).contains(minimumMemoryMiB) {
      problem = "its minimumMemoryMiB is \(minimumMemoryMiB)"
    } else if technology == .unikernel {
      if machine != "microvm" {
        problem = "its machine is \(machine); a unikernel's is microvm"
      } else if !entrypoint.isEmpty {
        problem = "it has an entrypoint; a unikernel is itself what it starts"
      }
    } else if entrypoint.isEmpty {
      problem = "its entrypoint is empty; name a command in the recipe"
    }
    if let problem {
      throw NFVError(.unprocessable, "the machine's image \(source) cannot be taken: \(problem)")
    }
  }
}
