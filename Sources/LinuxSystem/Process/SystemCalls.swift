internal import CLinux
internal import Glibc
public import SystemPackage

/// System calls that are written down here and made by another process: a child between fork and exec,
/// or the copy of a program that waits, which has no Swift in it (Sources/CZygote).
///
/// Making them takes no lock and no memory. One that is interrupted is made again.
public struct SystemCalls: Sendable {
  public enum Argument: Sendable {
    case value(Int)
    /// Its UTF-8 with a zero at the end.
    case text(String)
    case octets([UInt8])
    /// Octets of an earlier ``SystemCalls/store(_:in:at:)``.
    case stored(at: Int)
    /// A descriptor, by its place among those that the process is given.
    case given(Int)
    /// What an earlier call returns.
    case result(of: Int)
  }

  /// A call's names in messages.
  private struct Label: Sendable {
    var step: String
    var call: String
    var subject: String
  }

  /// What the calls from now on are part of, for messages.
  public var step = ""
  private var calls: [CLinux_call] = []
  private var octets: [UInt8] = []
  private var labels: [Label] = []

  public init() {}

  public var count: Int { calls.count }

  /// - Parameters:
  ///   - number: the system call's, as `SYS_mount`.
  ///   - name: its name as its man page has it; with `subject`, what it is about, for messages.
  ///   - tolerating: an error that is as good as success.
  ///   - tellsFailures: its result is the descriptor that failures are told to from then on.
  /// - Returns: its result, for later calls.
  @discardableResult
  mutating func append(
    _ number: Int32, _ name: String, _ subject: String, _ arguments: Argument...,
    tolerating: Errno? = nil, tellsFailures: Bool = false
  ) -> Argument {
    var call = CLinux_call()
    call.number = Int64(number)
    call.tolerated = tolerating?.rawValue ?? 0
    call.is_pipe = tellsFailures ? 1 : 0
    append(&call, arguments, Label(step: step, call: name, subject: subject))
    return .result(of: calls.count - 1)
  }

  /// Writes a descriptor into octets, where its number is not known before.
  /// - Parameter offset: of its 8 octets.
  /// - Returns: the octets, for a later call.
  mutating func store(_ descriptor: Argument, in place: [UInt8], at offset: Int) -> Argument {
    let start = put(place)
    var call = CLinux_call()
    call.number = Int64(CLINUX_STORE)
    append(
      &call, [.stored(at: start + offset), descriptor], Label(step: step, call: "", subject: ""))
    return .stored(at: start)
  }

  private mutating func append(_ call: inout CLinux_call, _ arguments: [Argument], _ label: Label) {
    precondition(arguments.count <= 6)
    withUnsafeMutableBytes(of: &call.arguments) { values in
      for (index, argument) in arguments.enumerated() {
        let (kind, value) = encode(argument)
        call.kinds |= UInt32(kind) << (4 * UInt32(index))
        // SAFETY: six values of 8 octets, and at most six arguments.
        values.storeBytes(of: Int64(value), toByteOffset: 8 * index, as: Int64.self)
      }
    }
    calls.append(call)
    labels.append(label)
  }

  private mutating func encode(_ argument: Argument) -> (kind: Int, value: Int) {
    switch argument {
    case .value(let value): (CLINUX_VALUE, value)
    case .text(let text): (CLINUX_OCTETS, put(Array(text.utf8) + [0]))
    case .octets(let octets): (CLINUX_OCTETS, put(octets))
    case .stored(let place): (CLINUX_OCTETS, place)
    case .given(let place): (CLINUX_GIVEN, place)
    case .result(let call): (CLINUX_RESULT, call)
    }
  }

  /// Aligned as the kernel's structures are.
  private mutating func put(_ more: [UInt8]) -> Int {
    octets += [UInt8](repeating: 0, count: -octets.count & 7)
    octets += more
    return octets.count - more.count
  }

  // MARK: Making them

  /// Makes them all in this process.
  /// - Parameters:
  ///   - given: the descriptors that they have as ``Argument/given(_:)``.
  ///   - pipe: becomes what failures are told to.
  ///   - step: of the call that failed.
  public func perform(
    given: [FileDescriptor] = [], pipe: inout FileDescriptor, step: inout String
  ) throws(SystemError) {
    guard calls.count <= Int(CLINUX_MOST_CALLS) else {
      throw SystemError(call: "perform", errno: .argListTooLong)
    }
    var octets = octets
    let numbers = given.map(\.rawValue)
    var number = pipe.rawValue
    // SAFETY: every offset is of octets that `put` has stored, every place among the given and the
    // results is the caller's own; what a call does with its arguments is in its man page.
    let failed = octets.withUnsafeMutableBytes { octets in
      CLinux_perform(
        calls, UInt32(calls.count), octets.baseAddress?.assumingMemoryBound(to: CChar.self),
        numbers,
        &number)
    }
    let code = Errno(rawValue: Glibc.errno)
    pipe = FileDescriptor(rawValue: number)
    guard failed >= 0 else { return }
    let label = labels[Int(failed)]
    step = label.step
    throw SystemError(call: label.call, errno: code, subject: label.subject)
  }

  /// Writes calls down and makes them here.
  static func perform(
    _ body: (inout SystemCalls) -> Void
  ) throws(SystemError) {
    var calls = SystemCalls()
    body(&calls)
    var pipe = FileDescriptor(rawValue: -1)
    var step = ""
    try calls.perform(pipe: &pipe, step: &step)
  }

  /// For `CLinux_perform` of another process on this machine: `CLinux_call`s, and the octets behind
  /// them.
  public func encoded() -> (count: Int, calls: [UInt8], octets: [UInt8]) {
    var calls = calls
    var octets = octets
    for (index, label) in labels.enumerated() {
      calls[index].label = UInt32(octets.count)
      let subject = label.subject.isEmpty ? "" : " " + label.subject
      octets += Array("\(label.step): \(label.call)\(subject)".utf8) + [0]
    }
    octets += [UInt8](repeating: 0, count: -octets.count & 7)
    // SAFETY: structures without padding, each of whose octets was written.
    return (calls.count, calls.withUnsafeBytes { Array($0) }, octets)
  }

  /// More than these one process does not take.
  public static let most = Int(CLINUX_MOST_CALLS)
}
