/// One mount of a mount namespace: a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
public struct MountEntry: Sendable, Hashable {
  /// The folder of the file system that is the mount's root.
  public var root: String
  public var mountPoint: String
  public var fileSystem: String
  /// The file system's own options, such as a cgroup hierarchy's controllers.
  public var superOptions: [String]

  public init(root: String, mountPoint: String, fileSystem: String, superOptions: [String]) {
    self.root = root
    self.mountPoint = mountPoint
    self.fileSystem = fileSystem
    self.superOptions = superOptions
  }

  /// Every mount of `text`, in its order; a line of another form is left out.
  public static func parse(_ text: String) -> [MountEntry] {
    text.split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
      // Optional fields stand between the mount's options and the lonely hyphen.
      guard fields.count >= 10, let hyphen = fields[6...].firstIndex(of: "-"),
        fields.count > hyphen + 3
      else { return nil }
      return MountEntry(
        root: unescaped(fields[3]), mountPoint: unescaped(fields[4]),
        fileSystem: fields[hyphen + 1],
        superOptions: fields[hyphen + 3].split(separator: ",").map(String.init))
    }
  }

  /// The mounts that the calling thread sees.
  public static func current() throws(SystemError) -> [MountEntry] {
    parse(
      String(decoding: try readFile("/proc/thread-self/mountinfo", limit: 4 << 20), as: UTF8.self))
  }

  /// The kernel writes space, tab, newline and backslash as three octal digits.
  private static func unescaped(_ field: String) -> String {
    guard field.utf8.contains(UInt8(ascii: "\\")) else { return field }
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == UInt8(ascii: "\\"), digits.count == 3,
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(value)
        rest = rest.dropFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
