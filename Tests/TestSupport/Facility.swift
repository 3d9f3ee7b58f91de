import Glibc
import LinuxSystem
import NFVImages
public import Testing

/// What a test needs of the host. A missing facility skips its tests and says so, unless
/// MARTLET_REQUIRE (`root,crun`) names it, or what is nothing without it: then they run, and fail.
public struct Facility: Sendable {
  public let name: String
  /// Whether tests that need it run.
  public let isThere: Bool

  /// - Parameters:
  ///   - whole: another facility, which who requires it requires this one as well.
  ///   - required: the names that are required, with commas between them.
  ///   - isFound: asked only where the facility is not required.
  public init(
    _ name: String, partOf whole: String? = nil, required: String = Facility.required,
    _ isFound: @autoclosure () -> Bool
  ) {
    self.name = name
    let names = required.split(separator: ",")
    isThere = names.contains { $0 == name || $0 == whole ?? name } || isFound()
  }

  /// What MARTLET_REQUIRE says.
  public static let required = getenv("MARTLET_REQUIRE").map { String(cString: $0) } ?? ""

  /// A program of the host, where Debian puts it.
  public init(program name: String) { self.init(name, Self.path(of: name) != nil) }

  public static let root = Facility("root", geteuid() == 0)
  public static let crun = Facility(program: "crun")
  public static let runc = Facility(program: "runc")
  public static let skopeo = Facility(program: "skopeo")
  /// Which compiles AppArmor's profiles, and whether the host's kernel takes them.
  public static let apparmorParser = Facility(program: "apparmor_parser")
  public static let apparmor = Facility("apparmor", AppArmor.isEnabled)
  public static let qemuPath = "/usr/bin/qemu-system-x86_64"
  public static let qemu = Facility("qemu", access(qemuPath, X_OK) == 0)
  /// Debian's kernel for guests, cached or got by apt: a machine that boots Linux has none without it.
  public static let kernel = Facility(
    "kernel", partOf: "qemu", (try? KernelPackage.standard()) != nil)
  /// `make functions` builds it.
  public static let unikernelPath =
    "\(Built.project)/NetworkFunctions/Unikernel/.build/responder.elf"
  public static let unikernel = Facility(
    "unikernel", partOf: "qemu", access(unikernelPath, R_OK) == 0)
  /// Version 2 of control groups alone: this host's, or that of a guest.
  public static let cgroup2 = Facility("cgroup2", hostHasCgroup2 || qemu.isThere)

  /// Whether this host has version 2 of control groups alone, so that tests which make groups need
  /// no guest for it.
  public static let hostHasCgroup2 = (try? CgroupHierarchies.detect())?.isUnifiedOnly ?? false

  /// The program's path; nil where the host has none of that name.
  public static func path(of program: String) -> String? {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"].map { "\($0)/\(program)" }
      .first { access($0, X_OK) == 0 }
  }
}

extension Trait where Self == ConditionTrait {
  /// Runs a test or suite only where all of these are there.
  public static func needs(_ facilities: Facility...) -> Self {
    let missing = facilities.filter { !$0.isThere }.map(\.name)
    return .enabled(if: missing.isEmpty, "this host lacks \(missing.joined(separator: " and "))")
  }
}
