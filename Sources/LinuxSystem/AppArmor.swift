internal import Glibc
internal import SystemPackage

/// The host's AppArmor (apparmor(7)): programs that are started under a profile may do no more than
/// it allows, whoever they run as.
public enum AppArmor {
  /// Whether the kernel confines programs by profiles.
  public static var isEnabled: Bool {
    (try? readFile("/sys/module/apparmor/parameters/enabled", limit: 16)).map { $0.first } == 0x59
  }

  /// Whether the kernel confines by SELinux instead, in enforcing mode.
  public static func isSELinuxEnforcing(in folder: String = "/sys/fs/selinux") -> Bool {
    (try? readFile(folder + "/enforce", limit: 16)).map { $0.first } == 0x31
  }

  /// What holds a process now: a profile's name, with its mode in parentheses where that is not to
  /// enforce it; nil where nothing does.
  /// - Throws: where there is no such process.
  public static func profile(
    ofProcess pid: Int32, in folder: String = "/proc"
  ) throws(SystemError) -> String? {
    // The first is AppArmor's own, where another module has the second (Linux 5.8).
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try readFile("\(folder)/\(pid)/attr/apparmor/current", limit: 4096)
    } catch  where error.errno == .noSuchFileOrDirectory {
      bytes = try readFile("\(folder)/\(pid)/attr/current", limit: 4096)
    }
    let text = String(decoding: bytes.prefix { $0 != 10 && $0 != 0 }, as: UTF8.self)
    if text == "unconfined" { return nil }
    let mode = " (enforce)"
    return text.hasSuffix(mode) ? String(text.dropLast(mode.count)) : text
  }

  private static let interface = "/sys/kernel/security/apparmor"

  /// The names of the profiles that the kernel has. Needs root.
  public static func profiles() throws(SystemError) -> [String] {
    let text = String(
      decoding: try readFile(interface + "/profiles", limit: 4 << 20), as: UTF8.self)
    // Each line is a name and, in parentheses, its mode.
    return text.split(separator: "\n").compactMap { line in
      line.lastIndex(of: "(").map { String(line.prefix(upTo: $0).dropLast()) }
    }
  }

  /// Compiles a profile by apparmor_parser(8) and gives it to the kernel, in place of one with the
  /// same name.
  /// - Returns: how that program ended, and what it said.
  public static func load(
    _ profile: String, parser: String = "/usr/sbin/apparmor_parser"
  ) throws(SystemError) -> ProgramResult {
    let input = try makeMemoryFile("profile")
    defer { try? input.close() }
    try writeAll(Array(profile.utf8), to: input)
    try systemCall("lseek") { lseek(input.rawValue, 0, SEEK_SET) }
    return try runProgram(
      parser, arguments: ["apparmor_parser", "--replace", "--skip-cache"], input: input,
      timeout: .seconds(20))
  }

  /// Takes a profile from the kernel. What runs under it goes on unconfined.
  public static func remove(_ name: String) throws(SystemError) {
    let file = try openFile(interface + "/.remove", .write)
    defer { try? file.close() }
    try writeAll(Array(name.utf8), to: file, name)
  }
}
