public import SystemPackage

#if canImport(Glibc)
  internal import Glibc
#elseif canImport(Musl)
  internal import Musl
#endif

/// A system call that failed: which call, with which errno, and on what.
public struct SystemError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The call's name as its man page has it, such as `mount`.
  public var call: String
  public var errno: Errno
  /// What the call was about: a path, an interface's name, a process id.
  public var subject: String

  public init(call: String, errno: Errno, subject: String = "") {
    self.call = call
    self.errno = errno
    self.subject = subject
  }

  /// The error of the call that has just failed, from the thread's `errno`.
  public static func last(_ call: String, _ subject: String = "") -> SystemError {
    SystemError(call: call, errno: Errno(rawValue: Glibc.errno), subject: subject)
  }

  public var description: String {
    subject.isEmpty ? "\(call): \(errno)" : "\(call) \(subject): \(errno)"
  }
}

/// Calls `body`, again while it is interrupted (EINTR), and throws where it returns -1.
///
/// Every system call of Martlet goes through here, so that `errno` is read on the thread and at
/// the moment of the failure. Not for close(2), whose descriptor is gone even after EINTR.
@discardableResult
public func systemCall<Value: FixedWidthInteger>(
  _ call: String, _ subject: @autoclosure () -> String = "", _ body: () -> Value
) throws(SystemError) -> Value {
  while true {
    let value = body()
    if value != -1 { return value }
    let code = Glibc.errno
    if code == EINTR { continue }
    throw SystemError(call: call, errno: Errno(rawValue: code), subject: subject())
  }
}
