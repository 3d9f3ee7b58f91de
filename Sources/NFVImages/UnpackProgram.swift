public import Archive
internal import LinuxSystem
internal import SystemPackage

/// How `martlet-unpack` is called and how it answers; both sides of it.
public struct UnpackRequest: Sendable, Hashable {
  /// Why the program failed, as its exit code.
  public enum Failure: Int32, Sendable {
    case other = 1
    /// A layer is damaged or forbidden (EX_DATAERR).
    case badLayer = 65
    /// The disk or its quota is full (EX_CANTCREAT).
    case diskFull = 73
  }

  /// The folder that is filled.
  public var root: String
  /// The layers' files, the lowest first.
  public var layers: [String]
  public var limits: ArchiveLimits

  public init(root: String, layers: [String], limits: ArchiveLimits) {
    self.root = root
    self.layers = layers
    self.limits = limits
  }

  /// Reads the command line, without the program's name.
  /// - Returns: nil where it is none.
  public init?(arguments: [String]) {
    guard arguments.count >= 3, let entries = Int(arguments[0]), let bytes = UInt64(arguments[1])
    else { return nil }
    self.init(
      root: arguments[2], layers: Array(arguments[3...]),
      limits: ArchiveLimits(entries: entries, bytes: bytes))
  }

  public var arguments: [String] { ["\(limits.entries)", "\(limits.bytes)", root] + layers }

  /// Runs the program and waits for it.
  /// - Throws: `ArchiveError` where a layer is bad, else `SystemError`.
  func run(_ program: String) throws {
    let result = try runProgram(program, arguments: ["martlet-unpack"] + arguments)
    if result.status == 0 { return }
    let text = String(decoding: result.output.suffix(2048), as: UTF8.self)
      .split(whereSeparator: \.isNewline).joined(separator: " ")
    switch Failure(rawValue: result.status) {
    case .badLayer: throw ArchiveError(archive: "the image", message: text)
    case .diskFull: throw SystemError(call: "write", errno: .noSpace, subject: text)
    default:
      throw SystemError(
        call: program, errno: .ioError,
        subject: text.isEmpty ? "ended with \(result.status)" : text)
    }
  }
}

/// Whether an error says that the disk or its quota is full.
public func isDiskFull(_ error: any Error) -> Bool {
  let errno = (error as? SystemError)?.errno ?? (error as? Errno)
  return errno == .noSpace || errno == .diskQuotaExceeded
}
