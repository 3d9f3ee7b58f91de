/// What the build that a test is of made.
public enum Built {
  /// The project's folder.
  public static let project: String = {
    let file = #filePath
    return String(file[..<(file.firstRange(of: "/Tests/")?.lowerBound ?? file.startIndex)])
  }()

  /// The path of a program: beside the test bundle, where the build puts every product.
  public static func program(_ name: String) -> String {
    let bundle = CommandLine.arguments.first { $0.contains(".xctest") }
    if let bundle, let end = bundle.firstRange(of: "/martletPackageTests")?.lowerBound {
      return "\(bundle[..<end])/\(name)"
    }
    return "\(project)/.build/debug/\(name)"
  }
}
