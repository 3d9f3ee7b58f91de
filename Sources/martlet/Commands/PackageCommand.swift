internal import ArgumentParser
internal import NFVClient
internal import NFVModel
internal import SystemPackage

struct PackageCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "package",
    abstract: "Onboard packages, see and remove them.",
    discussion: """
      A package (CSAR, SOL004) says what a function consists of. Examples:

        martlet package init hello
        martlet package lint hello
        martlet package build hello -o hello.csar
        martlet package upload hello.csar
        martlet package list
      """,
    subcommands: [Init.self, Lint.self, Build.self, Upload.self, List.self, Show.self, Delete.self])

  struct Upload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Send a package to the daemon, which checks it and makes it ready.",
      discussion: "Example: martlet package upload firewall.csar")

    @Argument(help: "The CSAR.", completion: .file()) var file: String
    @OptionGroup var waiting: WaitOptions
    @OptionGroup var output: OutputOptions
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
      let daemon = try connection.daemon()
      let id = try await daemon.upload(file)
      guard waiting.wait else {
        output.write(try await daemon.get(.package, id), of: .package)
        Console.current.note(
          "It is being checked; `martlet wait package \(shortened(id))` waits for it.")
        return
      }
      output.write(try await daemon.onboarded(id, waiting.timeout.duration), of: .package)
    }
  }

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "List packages.", discussion: "Example: martlet package list -o wide")
    @OptionGroup var options: ListOptions

    func run() async throws { try await options.run(.package) }
  }

  struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show a package.", discussion: "Example: martlet package show firewall")
    @Argument(help: "The package.") var package: String
    @OptionGroup var options: ListOptions

    func run() async throws { try await options.show(.package, package) }
  }

  struct Delete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Remove a package that no instance uses.",
      discussion: "Example: martlet package delete firewall")
    @Argument(help: "The package.") var package: String
    @OptionGroup var connection: ConnectionOptions

    func run() async throws { try await connection.daemon().delete(.package, package) }
  }
}

extension Daemon {
  /// Creates a package resource and sends it the file; returns its identifier. The resource goes
  /// again where the content was not taken.
  func upload(_ path: String) async throws(Failure) -> String {
    try requirePackageFile(path)
    let file: FileDescriptor
    let length: Int
    do {
      file = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
      length = Int(try file.seek(offset: 0, from: .end))
      try file.seek(offset: 0, from: .start)
    } catch {
      throw Failure(.notFound, "\(path) cannot be read: \(error)")
    }
    defer { try? file.close() }
    let isFolder: Void? = try? FileDescriptor.open(FilePath(path), .readOnly, options: .directory)
      .close()
    guard isFolder == nil, length > 0 else {
      throw Failure(
        .refused, "\(path) is \(isFolder == nil ? "empty" : "a folder")",
        advice: "a CSAR is wanted: `martlet package build FOLDER` makes one of a package's folder")
    }
    let created = try await send(.post, Kind.package.collection, .object([:])).value
    let id = created["id"].text
    let target = "\(Kind.package.collection)/\(id)/package_content"
    let request = HTTPRequest(.put, target, headers: ["Content-Type": "application/zip"])
    let client = client
    do throws(Failure) {
      try await Progress.show("upload \(FilePath(path).lastComponent?.string ?? path)") {
        (progress) async throws(Failure) in
        do throws(ClientError) {
          _ = try await client.upload(
            request, length: length, next: { try nextPiece(of: file) },
            progress: { sent in
              progress.update {
                $0.fraction = length == 0 ? 1 : Double(sent) / Double(length)
                $0.detail = octets(Int64(sent))
              }
            })
        } catch {
          throw Failure(error)
        }
      }
    } catch {
      _ = try? await send(.delete, "\(Kind.package.collection)/\(id)")
      throw error
    }
    return id
  }

  /// Waits until an uploaded package is onboarded. One that was refused is removed again.
  func onboarded(_ id: String, _ limit: Duration) async throws(Failure) -> JSONValue {
    do throws(Failure) {
      return try await within(
        limit, "onboarding",
        advice: "it goes on: `martlet wait package \(shortened(id))` waits on"
      ) { () async throws(Failure) in
        try await Progress.show("onboarding") { (progress) async throws(Failure) in
          try await awaitOnboarding(id, progress)
        }
      }
    } catch {
      if error.code == .refused { _ = try? await send(.delete, "\(Kind.package.collection)/\(id)") }
      throw error
    }
  }
}

/// Says where there is nothing at a path at which a package should be.
func requirePackageFile(_ path: String) throws(Failure) {
  do {
    _ = try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec).closeAfter {}
  } catch {
    throw Failure(
      .notFound, "the package \(path) cannot be read: \(error)",
      advice: "`martlet package init NAME` makes a package's folder, `martlet package build` a CSAR"
    )
  }
}

/// The next piece of an open file, nil at its end.
private func nextPiece(of file: FileDescriptor) throws -> [UInt8]? {
  let piece = try [UInt8](unsafeUninitializedCapacity: 256 << 10) { buffer, count in
    // SAFETY: read(2) fills `count` octets of the buffer, which are then initialised.
    count = try file.read(into: UnsafeMutableRawBufferPointer(buffer))
  }
  return piece.isEmpty ? nil : piece
}
