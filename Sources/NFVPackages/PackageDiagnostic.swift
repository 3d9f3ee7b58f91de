public import NFVModel

/// Something to say about a package: what, and where in which of its files.
public struct PackageDiagnostic: Sendable, Hashable, Codable, CustomStringConvertible {
  public enum Severity: String, Sendable, Hashable, Codable { case error, warning }

  public var severity: Severity
  /// Within the package.
  public var file: String
  /// From 1; 0 where it is about the file as a whole.
  public var line: Int
  public var column: Int
  public var message: String

  public init(
    _ severity: Severity, file: String, line: Int = 0, column: Int = 0, message: String
  ) {
    self.severity = severity
    self.file = file
    self.line = line
    self.column = column
    self.message = message
  }

  /// No file says which descriptor is the package's.
  static let noEntry = PackageDiagnostic(
    .error, file: "package",
    message: "it has neither TOSCA-Metadata/TOSCA.meta nor exactly one YAML file in its root "
      + "(SOL004 4.1); new ones are made by: martlet package init")

  /// `file:line:column: severity: message`, as compilers write and editors read it.
  public var description: String {
    (line > 0 ? "\(file):\(line):\(column)" : file) + ": \(severity.rawValue): \(message)"
  }
}

/// A package that was refused, with everything that was found in it.
public struct PackageError: Error, Sendable, Hashable {
  public var diagnostics: [PackageDiagnostic]

  public init(_ diagnostics: [PackageDiagnostic]) { self.diagnostics = diagnostics }

  /// The error as the interface answers it.
  public var problem: NFVError {
    let errors = diagnostics.filter { $0.severity == .error }
    let rest = errors.count > 1 ? " (and \(errors.count - 1) more)" : ""
    return NFVError(
      .unprocessable,
      "the package is refused: \(errors.first?.description ?? "it is damaged")\(rest); check it "
        + "with: martlet package lint")
  }
}
