import LinuxSystem

/// Copies programs of the host, and the libraries that the loader finds for them, to the same paths
/// below a folder.
public func copyPrograms(_ programs: [String], into root: String) throws {
  try copyFiles(programs + libraries(of: programs), into: root)
}

/// The libraries of programs, as the loader finds them (ldd(1)).
public func libraries(of programs: [String]) throws -> [String] {
  var paths: Set<String> = []
  // As many as have their lists in what is kept of a program's output.
  for start in stride(from: 0, to: programs.count, by: 16) {
    let some = programs[start..<min(start + 16, programs.count)]
    let result = try runProgram("/usr/bin/ldd", arguments: ["ldd"] + some)
    paths.formUnion(
      String(decoding: result.output, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        .filter { $0.hasPrefix("/") && !$0.hasSuffix(":") }.map(String.init))
  }
  return paths.sorted()
}

/// Copies files of the host, or what links lead to, to the same paths below a folder.
public func copyFiles(_ paths: [String], into root: String) throws {
  let result = try runProgram(
    "/bin/cp", arguments: ["cp", "-L", "--parents"] + paths + [root])
  guard result.status == 0 else {
    throw Failed("cp: \(String(decoding: result.output, as: UTF8.self))")
  }
}
