internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
public import NFVModel

/// The source of the network functions in Swift, the folder `NetworkFunctions` of a checkout, and
/// what is built from it; needs Swift where something has changed since it was built.
public struct FunctionSource: Sendable, Hashable {
  /// What a function becomes.
  public enum Product: Sendable, Hashable {
    /// A static program for Linux.
    case program
    /// An ELF file that a machine boots.
    case unikernel
  }

  /// Absolute.
  public let folder: String

  /// - Parameter path: the folder, or the checkout that has it; nil looks for a checkout that the
  ///   working folder or the running program is in.
  /// - Throws: `notFound` where there is none.
  public init(_ path: String? = nil) throws(NFVError) {
    let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let starts = path.map { [$0] } ?? [".", split(program ?? "/").folder]
    for start in starts {
      var parts = Self.absolute(start).split(separator: "/").filter { $0 != "." }
      repeat {
        let place = "/" + parts.joined(separator: "/")
        for candidate in [place, "\(place)/NetworkFunctions"]
        where fileExists("\(candidate)/Unikernel/build") && fileExists("\(candidate)/build") {
          folder = candidate
          return
        }
      } while path == nil && parts.popLast() != nil
    }
    throw NFVError(
      .notFound,
      path.map { "\($0) has no source of network functions (NetworkFunctions/build)" }
        ?? "there is no source of network functions around here; work in a checkout of Martlet, or "
        + "name it by --source")
  }

  /// The functions that can be built, sorted.
  public func names(_ product: Product) -> [String] {
    let sources = "\(package(product))/Sources"
    return ((try? listFolder(sources)) ?? []).filter { fileExists("\(sources)/\($0)/Main.swift") }
  }

  /// Builds a function, unless what was built last is newer than all of the source.
  /// - Parameter progress: is told what is under way.
  /// - Returns: the path of what was built.
  /// - Throws: `notFound` where there is no such function, `unavailable` where Swift is missing,
  ///   `failed` with the compiler's words.
  public func build(
    _ name: String, as product: Product, progress: (String) -> Void = { _ in }
  ) throws(NFVError) -> String {
    let names = names(product)
    guard names.contains(name) else {
      throw NFVError(
        .notFound,
        "there is no network function \(name) in \(folder); there are "
          + names.joined(separator: ", "))
    }
    let package = package(product)
    let output = "\(package)/.build/\(name)\(product == .unikernel ? ".elf" : "")"
    if let built = Self.modified(output), built >= newest { return output }
    let environment = ProcessInfo.processInfo.environment
    let home = environment["HOME"] ?? "/root"
    let folders =
      (environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":").map(String.init)
      + ["/opt/swift/usr/bin", "/usr/local/swift/usr/bin", "\(home)/.local/share/swiftly/bin"]
    guard folders.contains(where: { access("\($0)/swift", X_OK) == 0 }) else {
      throw NFVError(
        .unavailable,
        "the network function \(name) has to be built, which takes Swift 6.3, and it is not in the "
          + "PATH; see https://swift.org/install, or have it built by who has it: "
          + "\(package)/build \(name)")
    }
    progress("Building \(name): \(package)/build \(name)")
    let result: ProgramResult
    do throws(SystemError) {
      result = try runProgram(
        "/usr/bin/env",
        arguments: [
          "env", "PATH=\(folders.joined(separator: ":"))", "HOME=\(home)", "\(package)/build", name,
        ])
    } catch {
      throw NFVError(.failed, "\(package)/build cannot be run", cause: error)
    }
    guard result.status == 0, fileExists(output) else {
      let lines = String(decoding: result.output, as: UTF8.self).split(separator: "\n")
      let errors = lines.filter { $0.contains("error:") }
      throw NFVError(
        .failed, "the network function \(name) cannot be built: see \(package)/build \(name)",
        cause: (errors.isEmpty ? lines.suffix(5) : errors.prefix(5)).joined(separator: "\n"))
    }
    return output
  }

  private func package(_ product: Product) -> String {
    product == .unikernel ? "\(folder)/Unikernel" : folder
  }

  /// When the source changed last.
  private var newest: Moment {
    var newest = Moment(seconds: 0, nanoseconds: 0)
    func visit(_ path: String) {
      guard let modified = Self.modified(path) else { return }
      newest = max(newest, modified)
      for name in (try? listFolder(path)) ?? [] where !name.hasPrefix(".") && name != "Tests" {
        visit("\(path)/\(name)")
      }
    }
    for name in (try? listFolder(folder)) ?? [] where !name.hasPrefix(".") && name != "Tests" {
      visit("\(folder)/\(name)")
    }
    return newest
  }

  private struct Moment: Comparable {
    var seconds, nanoseconds: Int

    static func < (one: Self, other: Self) -> Bool {
      (one.seconds, one.nanoseconds) < (other.seconds, other.nanoseconds)
    }
  }

  private static func modified(_ path: String) -> Moment? {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    return Moment(seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
  }
}
