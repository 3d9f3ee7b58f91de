internal import ControlProtocol
internal import LinuxSystem
internal import SystemPackage

/// What the machine gets before its function is started.
enum Preparation {
  /// The function's document, where it finds it in a container as well.
  static let document = "run/martlet/config.json"

  private static let noSetUserID: UInt = 2
  private static let noDevices: UInt = 4
  private static let noExecution: UInt = 8

  static func mountFileSystems() throws(SystemError) {
    let closed = noSetUserID | noDevices | noExecution
    let mounts: [(type: String, target: String, flags: UInt, options: String)] = [
      ("proc", "/proc", closed, ""),
      ("sysfs", "/sys", closed, ""),
      ("devtmpfs", "/dev", noSetUserID | noExecution, "mode=755"),
      ("devpts", "/dev/pts", noSetUserID | noExecution, "mode=620,ptmxmode=666"),
      ("tmpfs", "/dev/shm", noSetUserID | noDevices, "mode=1777"),
      ("tmpfs", "/run", noSetUserID | noDevices, "mode=755"),
      ("tmpfs", "/tmp", noSetUserID | noDevices, "mode=1777"),
    ]
    for (type, target, flags, options) in mounts {
      try Mount.makeDirectory(target, mode: 0o755)
      try Mount.mount(source: type, target: target, type: type, flags: flags, options: options)
    }
    try makeLink("/dev/fd", to: "/proc/self/fd")
    for (number, name) in ["stdin", "stdout", "stderr"].enumerated() {
      try makeLink("/dev/\(name)", to: "/proc/self/fd/\(number)")
    }
  }

  /// Loads the modules whose paths stand in a file, one a line, in their order, with what the
  /// kernel's command line says of each.
  static func loadModules(listedIn list: String) throws(SystemError) {
    guard fileExists(list) else { return }
    let text = String(decoding: try readFile(list, limit: 1 << 16), as: UTF8.self)
    let commandLine = String(decoding: try readFile("/proc/cmdline", limit: 1 << 16), as: UTF8.self)
    for path in text.split(separator: "\n").map(String.init) {
      try Machine.loadModule(path, parameters: parameters(ofModule: path, in: commandLine))
    }
  }

  /// The words `NAME.PARAMETER=VALUE` of a command line that name a module, without its name
  /// (kernel-command-line, "module parameters"; the kernel leaves them to who loads it).
  static func parameters(ofModule path: String, in commandLine: String) -> String {
    let file = path.split(separator: "/").last ?? ""
    let name = file.split(separator: ".").first.map {
      $0.split(separator: "-").joined(separator: "_")
    }
    return commandLine.split(whereSeparator: \.isWhitespace)
      .filter { $0.hasPrefix((name ?? "") + ".") }
      .map { $0.dropFirst((name ?? "").count + 1) }.joined(separator: " ")
  }

  static func setHostName(_ name: String) throws(SystemError) {
    if !name.isEmpty { try Machine.setHostName(String(name.prefix(64))) }
  }

  /// Moves what was given for the function to where it is looked for.
  static func place(
    _ files: [GuestStart.File], root: String = ""
  ) throws(SystemError) {
    try Mount.makeDirectory("\(root)/run/martlet", mode: 0o755)
    for (index, file) in files.enumerated() {
      let bytes = try take("\(root)/\(ControlProtocol.Place.files)/\(index)")
      var folder = root
      for part in file.path.split(separator: "/").dropLast() {
        folder += "/\(part)"
        if !fileExists(folder) { try Mount.makeDirectory(folder, mode: 0o755) }
      }
      try replaceFile(root + file.path, bytes, mode: file.mode & 0o7777)
    }
    let bytes = try take("\(root)/\(ControlProtocol.Place.document)")
    try replaceFile("\(root)/\(document)", bytes, mode: 0o644)
  }

  /// A file's content; the file goes, as it takes memory.
  private static func take(_ path: String) throws(SystemError) -> [UInt8] {
    let bytes = try readFile(path, limit: Int(try size(of: path)))
    try removeFile(path)
    return bytes
  }

  private static func size(of path: String) throws(SystemError) -> UInt64 {
    let file = try openFile(path, .read)
    defer { try? file.close() }
    return try fileSize(file).length
  }

  // MARK: Ports

  private static func write(_ name: String, _ value: String) throws(SystemError) {
    try writeFile("/proc/sys/net/\(name)", value)
  }

  /// Names and configures the interfaces that have the ports' MACs.
  static func setPorts(
    _ ports: [GuestStart.Port], forwards: Bool
  ) throws(GuestFailure) {
    let (socket, links) = try naming("the network cannot be set up") { () throws(SystemError) in
      // As in a container: addresses are those that are given, and there at once.
      for name in ["default", "all"] {
        try write("ipv6/conf/\(name)/accept_ra", "0")
        try write("ipv6/conf/\(name)/accept_dad", "0")
      }
      if forwards {
        try write("ipv4/ip_forward", "1")
        try write("ipv6/conf/all/forwarding", "1")
      }
      let socket = try NetlinkSocket(.route)
      try socket.request([.setLinkUp(named: "lo")], subject: "lo")
      return (socket, try socket.links())
    }
    var found: [(port: GuestStart.Port, index: UInt32)] = []
    for port in ports {
      guard let link = links.first(where: { $0.mac == port.mac }) else {
        let mac = port.mac.map { String($0, radix: 16) }.joined(separator: ":")
        throw GuestFailure(
          message: "there is no network device with the MAC \(mac) of \(port.name)")
      }
      found.append((port, link.index))
    }
    // One by the name of another goes by a third.
    try naming("interfaces cannot be named") { () throws(SystemError) in
      try socket.request(found.map { .setLink($0.index, name: "port\($0.index)") }, subject: "link")
    }
    for (port, index) in found {
      try naming("the port \(port.name) cannot be set up") { () throws(SystemError) in
        try socket.request([.setLink(index, name: port.name, mtu: port.mtu)], subject: port.name)
        // Without an address of ours the function answers for the port, and the kernel keeps still.
        if port.addresses.isEmpty { try write("ipv6/conf/\(port.name)/disable_ipv6", "1") }
        try socket.request(
          [.setLink(index, isUp: true)]
            + port.addresses.map {
              .addAddress($0.octets, prefixLength: Int($0.length), link: index)
            }
            + port.routes.map {
              .addRoute(
                to: $0.destination.octets, prefixLength: Int($0.destination.length),
                gateway: $0.via, link: index)
            }, subject: port.name)
      }
    }
  }
}
